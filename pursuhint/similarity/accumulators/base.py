r"""The interface of layer statistics that metrics read.

Two classes implement it, and a metric works with either: `LayerMoments` (streamed second moments, memory
independent of the number of samples) and `PooledFeatures` (the pooled features themselves, for kernels and
for fewer samples than features).

Metrics read *strips*: the centered cross-products :math:`X_i^\top X_j` of one layer i with itself and all
deeper layers. A strip holds one row of blocks of the full cross-product matrix, so that memory stays
proportional to one layer's width. The coordinates of a layer may be rotated: all metrics are invariant to
rotations of the features of a layer.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from pursuhint.errors import PursuhintError
from pursuhint.similarity.checks import above_rounding, noise_floor

__all__ = ["LayerStatistics"]

Derived = TypeVar("Derived")

CHECK_EVERY = 50
"""Batches between two checks on a GPU that all features are finite; each forces one GPU sync."""

_NEVER = 2**62


class Basis:
    """An orthonormal basis of the span of a layer's centered features.

    Attributes:
        whitening: (coordinates, rank); centered features times this matrix have orthonormal columns, in
            descending order of variance.
        scales: (rank,), the singular values of the centered features, largest first.
        energies: (coordinates,), all squared singular values, largest first, none below zero.
    """

    def __init__(self, scatter: Tensor, floor: float) -> None:
        eigenvalues, vectors = torch.linalg.eigh(scatter)
        self.energies = eigenvalues.flip(0).clamp_min(0)
        # Directions below the noise floor are rounding errors of the features, not features.
        rank = int(above_rounding(self.energies, floor).sum())
        self.scales = self.energies[:rank].sqrt()
        self.whitening = vectors.flip(1)[:, :rank] / self.scales
        # eigh leaves small eigenvalues off by a rounding error of the largest one, so the columns of the
        # whitening are not quite of unit length. The products with the scatter matrix are accurate also where
        # features differ in magnitude by many orders, so they tell what to correct.
        self.refine(self.whitening.T @ scatter @ self.whitening)

    @property
    def rank(self) -> int:
        """Number of directions above the noise floor."""
        return len(self.scales)

    def refine(self, products: Tensor) -> None:
        """Orthonormalize the basis, given its actual inner products, (rank, rank)."""
        if self.rank:
            # Multiply by the inverse square root of the products, the orthonormal basis closest to this one.
            eigenvalues, vectors = torch.linalg.eigh(products)
            self.whitening = self.whitening @ (vectors / eigenvalues.sqrt()) @ vectors.T


class Strip:
    """Layer ``i`` against itself and all deeper layers.

    Args:
        layers: the statistics it is read from.
        i: index of the layer, from 0.
    """

    def __init__(self, layers: LayerStatistics, i: int) -> None:
        self.layers = layers
        self.i = i

    @cached_property
    def cross(self) -> Tensor:
        """Centered cross-products, (coordinates of i, coordinates of i, i + 1, ...)."""
        return self.layers.strip(self.i)

    @cached_property
    def layer_of_column(self) -> Tensor:
        """For each column, the index of its layer, relative to ``i``."""
        return _repeated(range(len(self.layers) - self.i), self.layers.coordinates[self.i :], self.cross)

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """Yield every layer j >= i with the cross-products of i and j."""
        yield from split_columns(self.i, self.cross, self.layers.coordinates)

    @cached_property
    def _coupling(self) -> Tensor:
        return self.layers.coupling(self)

    def couplings(self) -> Iterator[tuple[int, Tensor]]:
        r"""Yield every layer j >= i with :math:`Q_i^\top Q_j`, (rank of i, rank of j).

        Its singular values are the canonical correlations. The products are computed once and cached.
        """
        ranks = [self.layers.basis(j).rank if j >= self.i else 0 for j in range(len(self.layers))]
        for j, coupling in split_columns(self.i, self._coupling, ranks):
            # Q_i' Q_i is the identity by definition. Setting it exactly keeps the diagonal of every metric of
            # the CCA family at 1.
            yield j, torch.eye(ranks[j]).to(coupling) if j == self.i else coupling


def split_columns(first: int, columns: Tensor, sizes: Sequence[int]) -> Iterator[tuple[int, Tensor]]:
    """Yield (index, columns) of each layer from ``first`` on; ``sizes`` are the widths of all layers."""
    yield from enumerate(columns.split(list(sizes[first:]), dim=1), start=first)


def _repeated(values: Iterable[int], times: Sequence[int], like: Tensor) -> Tensor:
    return torch.tensor(list(values), device=like.device).repeat_interleave(
        torch.tensor(list(times), device=like.device)
    )


StripFunction = Callable[[Strip], Tensor]
"""Maps the strip of layer i to one number for each layer j >= i: shape (layers - i,). An asymmetric metric
returns (2, layers - i): the values of (i, j) in the first row, of (j, i) in the second."""


class LayerStatistics(ABC):
    """Statistics of the pooled features of all layers over a set of samples, for all pairs of layers.

    Args:
        widths: number of features of each layer.
        names: what to call each layer in error messages; ``layer 1``, ``layer 2``, ... by default.
        device: where they are kept; features are moved there if they are elsewhere.

    Raises:
        PursuhintError: there is no layer, a width is not positive, or the number of names differs.
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        names: Sequence[str] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.widths = tuple(int(width) for width in widths)
        if not self.widths or min(self.widths) < 1:
            raise PursuhintError(f"widths must be one or more positive numbers, got {list(widths)}")
        self.names = tuple(names) if names else tuple(f"layer {i + 1}" for i in range(len(self.widths)))
        if len(self.names) != len(self.widths):
            raise PursuhintError(f"{len(self.names)} names for {len(self.widths)} layers")
        self.device = torch.device(device)
        self.count = 0
        self.eps = [0.0] * len(self.widths)
        """Machine epsilon of each layer's input dtype (the coarsest one seen)."""
        self._batches = 0
        self._first_bad: Tensor | None = None  # on a GPU: for each column its first batch that is not finite
        self._unread = 0  # batches since it was read
        self._derived: dict[Callable[..., Any], Any] = {}

    def __len__(self) -> int:
        return len(self.widths)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} layers, {self.total_width} features, {self.count} samples)"

    # -- layout ----------------------------------------------------------------------------------------------

    @property
    def total_width(self) -> int:
        """P, the sum of the widths."""
        return sum(self.widths)

    @cached_property
    def blocks(self) -> tuple[slice, ...]:
        """Columns of each layer in the concatenated features."""
        ends = [sum(self.widths[: i + 1]) for i in range(len(self.widths))]
        return tuple(slice(end - width, end) for end, width in zip(ends, self.widths))

    @property
    def coordinates(self) -> tuple[int, ...]:
        """Number of coordinates of each layer in strips: at most its width."""
        return self.widths

    # -- accumulating ----------------------------------------------------------------------------------------

    def update(
        self, features: Sequence[Tensor], *, batch: int | None = None, samples: Tensor | None = None
    ) -> None:
        """Add a batch.

        Args:
            features: one tensor a layer, each of shape (batch, width), any floating-point type. An empty
                batch changes nothing.
            batch: number of the batch in error messages; by default batches are counted from 1.
            samples: integers that identify the samples, (batch,); default: their order of arrival. Seeded
                draws of samples select by these numbers, so they do not depend on the order of arrival.

        Raises:
            PursuhintError: the number of layers, a shape or a dtype is wrong, or a value is not finite or
                outside the range of fourth powers in float64 (the message names the layer). The statistics
                are unchanged then. On a GPU, whose host would wait for every batch, values that are not
                finite are found after at most `CHECK_EVERY` batches, or by `settle`, and stay in the sums.
        """
        self._check(features)
        if len(features[0]) == 0:
            return
        z = self._side_by_side(features)
        number = self._batches + 1 if batch is None else batch
        if self.device.type == "cuda":
            self._note_finite(z, number)
        elif not bool(torch.isfinite(z).all()):
            bad = next(
                i for i, block in enumerate(self.blocks) if not bool(torch.isfinite(z[:, block]).all())
            )
            raise self._not_finite(bad, number)
        for name, layer in zip(self.names, features):
            _check_range(name, layer)
        self._derived.clear()
        self._add(z, samples)
        self.count += len(z)
        self._batches += 1
        self.eps = [max(eps, torch.finfo(layer.dtype).eps) for eps, layer in zip(self.eps, features)]

    def _note_finite(self, z: Tensor, number: int) -> None:
        """Note which columns of a batch are not finite; read every `CHECK_EVERY` batches."""
        if self._first_bad is None:
            self._first_bad = torch.full((self.total_width,), _NEVER, device=self.device)
        bad = ~z.isfinite().all(0) & (self._first_bad == _NEVER)
        self._first_bad.masked_fill_(bad, number)
        self._unread += 1
        if self._unread == CHECK_EVERY:
            self.settle()

    def settle(self) -> None:
        """Check that all features so far were finite, where `update` has put that off; forces a GPU sync.

        Raises:
            PursuhintError: they were not; the message names the layer and the batch.
        """
        if self._first_bad is None or not self._unread:
            return
        firsts = torch.stack([self._first_bad[block].min() for block in self.blocks]).tolist()
        if (number := min(firsts)) != _NEVER:
            raise self._not_finite(firsts.index(number), int(number))
        self._unread = 0

    def _not_finite(self, i: int, number: int) -> PursuhintError:
        return PursuhintError(f"the features of {self.names[i]} hold NaN or infinity in batch {number}")

    def _check(self, features: Sequence[Tensor]) -> None:
        if len(features) != len(self):
            raise PursuhintError(f"expected the features of {len(self)} layers, got {len(features)}")
        for name, width, layer in zip(self.names, self.widths, features):
            if layer.ndim != 2 or layer.shape[1] != width:
                raise PursuhintError(
                    f"the features of {name} must be of shape (batch, {width}), got {tuple(layer.shape)}"
                )
            if len(layer) != len(features[0]):
                raise PursuhintError(
                    f"{name} has features of {len(layer)} samples, {self.names[0]} of {len(features[0])}"
                )
            if not layer.is_floating_point():
                raise PursuhintError(f"the features of {name} must be floating-point, got {layer.dtype}")

    @abstractmethod
    def _side_by_side(self, features: Sequence[Tensor]) -> Tensor:
        """Concatenate a checked batch to a new matrix (batch, P), in the dtype of accumulation."""

    @abstractmethod
    def _add(self, z: Tensor, samples: Tensor | None) -> None:
        """Add a checked batch; ``z`` may be overwritten."""

    # -- reading ---------------------------------------------------------------------------------------------

    def require(self, samples: int) -> None:
        """Check the number of samples.

        Raises:
            PursuhintError: fewer than ``samples``, or they were not finite; see `settle`.
        """
        self.settle()
        if self.count < samples:
            raise PursuhintError(f"similarity needs at least {samples} samples, got {self.count}")

    @abstractmethod
    def mean(self, i: int) -> Tensor:
        """Mean features of layer ``i`` (from 0), shape (width,)."""

    @abstractmethod
    def scatter(self, i: int) -> Tensor:
        """Centered cross-products of layer ``i`` with itself, a new tensor in the coordinates of its strips.

        Equals ``count`` times the covariance, up to rotation.
        """

    @abstractmethod
    def mean_square(self, i: int) -> Tensor:
        """Mean over samples of the squared features of layer ``i``, not centered, shape (width,)."""

    @abstractmethod
    def strip(self, i: int) -> Tensor:
        """Centered cross-products of layer ``i`` with layers i, i + 1, ...; see `Strip`."""

    @abstractmethod
    def loadings(self, i: int) -> Tensor:
        r"""The centered features of layer ``i`` in its basis, :math:`Q_i^\top X_i`, shape (rank, width)."""

    @abstractmethod
    def row_norm_products(self) -> Tensor:
        r"""Sum over samples of the product of both layers' squared norms, for all pairs of layers.

        :math:`\sum_n \lVert x_{i,n} \rVert^2 \lVert x_{j,n} \rVert^2` of centered features, (layers, layers).
        """

    def basis(self, i: int) -> Basis:
        """Orthonormal basis of the span of layer ``i``, without directions below the noise floor."""
        return self.once(_bases)[i]

    def _basis(self, i: int) -> Basis:
        return Basis(self.scatter(i), self.noise_floor(i))

    def coupling(self, strip: Strip) -> Tensor:
        """Products of the bases of a strip's layer and of all layers from it on."""
        # W_i' (X_i' X_j) W_j: the factor on the left is common to the whole strip, so it is applied once.
        half = self.basis(strip.i).whitening.T @ strip.cross
        parts = split_columns(strip.i, half, self.coordinates)
        return torch.cat([part @ self.basis(j).whitening for j, part in parts], dim=1)

    def noise_floor(self, i: int) -> float:
        """Largest eigenvalue of ``scatter(i)`` that rounding of the features alone explains."""
        return noise_floor(self.mean_square(i), self.count, self.eps[i])

    def variation(self, i: int) -> Tensor:
        """Frobenius norm of ``scatter(i)``, a scalar."""
        return self.once(_variations)[i]

    def spread(self, i: int) -> Tensor:
        """Trace of ``scatter(i)``: sum over samples of the squared distance to the mean, a scalar."""
        return self.once(_spreads)[i]

    def constant_layers(self) -> tuple[int, ...]:
        """Indices (from 0) of layers that do not vary beyond the rounding of their features."""
        return self.once(_constant_layers)

    def once(self, compute: Callable[[Any], Derived]) -> Derived:
        """``compute(self)``, cached until samples are added: for work that several metrics share."""
        if compute not in self._derived:
            self._derived[compute] = compute(self)
        result: Derived = self._derived[compute]
        return result

    def sweep(self, functions: Iterable[StripFunction]) -> None:
        """Evaluate several functions in one loop over the strips, and cache the values for `over_strips`."""
        self.require(2)
        missing = [function for function in dict.fromkeys(functions) if function not in self._derived]
        if not missing:
            return
        tables = {function: self._table() for function in missing}
        for i in range(len(self)):
            strip = Strip(self, i)
            for function, table in tables.items():
                values = function(strip)
                upper, lower = values if values.ndim == 2 else (values, values)
                table[i:, i] = lower
                table[i, i:] = upper
        self._derived |= tables

    def over_strips(self, function: StripFunction) -> Tensor:
        """Values of a function of strips for all pairs of layers, (layers, layers), cached.

        Raises:
            PursuhintError: fewer than two samples.
        """
        self.sweep([function])
        table: Tensor = self._derived[function]
        return table.clone()

    def _table(self) -> Tensor:
        return torch.full((len(self), len(self)), math.nan, dtype=torch.float64, device=self.device)


def _bases(layers: LayerStatistics) -> list[Basis]:
    return [layers._basis(i) for i in range(len(layers))]


def _variations(layers: LayerStatistics) -> Tensor:
    return torch.stack([_norm(layers.scatter(i)) for i in range(len(layers))])


def _norm(scatter: Tensor) -> Tensor:
    # Divided by the largest entry first, so that squares stay inside the range of the dtype.
    largest = scatter.abs().max().clamp_min(torch.finfo(scatter.dtype).tiny)
    return torch.linalg.matrix_norm(scatter / largest) * largest


def _spreads(layers: LayerStatistics) -> Tensor:
    return torch.stack([layers.scatter(i).trace() for i in range(len(layers))])


def _constant_layers(layers: LayerStatistics) -> tuple[int, ...]:
    return tuple(i for i in range(len(layers)) if float(layers.variation(i)) <= layers.noise_floor(i))


_FOURTH_POWERS = (1e-70, 1e70)  # magnitudes whose fourth powers, summed, float64 holds with all digits


def _check_range(name: str, features: Tensor) -> None:
    """Refuse float64 features whose statistics would overflow or vanish; other types cannot reach so far.

    The size of float64 features is read at once, which forces a GPU sync for every layer.
    """
    if features.dtype != torch.float64:
        return
    largest, (lower, upper) = float(features.detach().abs().max()), _FOURTH_POWERS
    if largest and not lower <= largest <= upper:
        raise PursuhintError(
            f"the features of {name} reach {largest:.0e}, outside [{lower:.0e}, {upper:.0e}], where their "
            "statistics fit float64; multiply the layer's features by a constant, which changes no similarity"
        )
