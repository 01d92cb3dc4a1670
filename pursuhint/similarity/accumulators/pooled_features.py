"""The pooled features of all layers, stored: for kernels, and for fewer samples than features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from pursuhint._util.distributed import world_size
from pursuhint.errors import PursuhintError
from pursuhint.similarity.accumulators.base import Basis, LayerStatistics, Strip
from pursuhint.similarity.accumulators.moments import LayerMoments
from pursuhint.similarity.checks import rotated

__all__ = ["PooledFeatures"]

CHUNK = 512
"""Samples converted to float64 at a time; bounds the temporary memory."""


class PooledFeatures(LayerStatistics):
    """The pooled features of all layers for every sample, in their input dtype.

    Stores what `pursuhint.similarity.LayerMoments` sums: ``samples * sum(widths)`` numbers, 4 bytes each for
    float32 features. Nonlinear kernels compare pairs of samples and need them. The linear metrics are
    computed from them too, in float64 and relative to the exact mean, one strip of cross-products at a time.
    A layer with more features than samples is first rotated to as many coordinates as samples (the dual
    form), so for fewer samples than features this is smaller and faster than moments.

    Args:
        widths: number of features of each layer.
        names: what to call each layer in error messages; ``layer 1``, ``layer 2``, ... by default.
        capacity: number of samples to allocate memory for; the storage grows beyond it if needed.
        device: where they are kept; features are moved there if they are elsewhere.

    Raises:
        PursuhintError: there is no layer, a width is not positive, or the number of names differs.

    Example:
        >>> rows = PooledFeatures([4, 6])
        >>> for x, y in zip(torch.randn(3, 5, 4), torch.randn(3, 5, 6)):
        ...     rows.update([x, y])
        >>> rows.features(1).shape, rows.cross(0, 1).shape
        (torch.Size([15, 6]), torch.Size([4, 6]))
    """

    def __init__(
        self,
        widths: Sequence[int],
        *,
        names: Sequence[str] | None = None,
        capacity: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(widths, names=names, device=device)
        self._capacity = capacity
        self._store: Tensor | None = None
        self._arrived: list[Tensor] = []  # numbers of the samples, where the batches were

    # -- accumulating ----------------------------------------------------------------------------------------

    def _side_by_side(self, features: Sequence[Tensor]) -> Tensor:
        dtype = torch.float32
        for layer in features:
            dtype = torch.promote_types(dtype, layer.dtype)
        return torch.cat([layer.detach().to(self.device, dtype) for layer in features], dim=1)

    def _add(self, z: Tensor, samples: Tensor | None = None) -> None:
        end = self.count + len(z)
        if self._store is None:
            self._store = z.new_empty(max(self._capacity, end), self.total_width)
        if self._store.dtype != (dtype := torch.promote_types(self._store.dtype, z.dtype)):
            self._store = self._store.to(dtype)
        if end > len(self._store):
            grown = self._store.new_empty(max(end, 2 * len(self._store)), self.total_width)
            grown[: self.count] = self._store[: self.count]
            self._store = grown
        self._store[self.count : end] = z
        numbers = torch.arange(self.count, end) if samples is None else samples.to(torch.int64, copy=True)
        self._arrived.append(numbers)

    def merge(self, other: PooledFeatures) -> None:
        """Add the features of other samples of the same layers.

        Raises:
            PursuhintError: the widths differ.
        """
        if other.widths != self.widths:
            raise PursuhintError(f"cannot merge rows of widths {other.widths} into widths {self.widths}")
        if not other.count:
            return
        self._derived.clear()
        self._add(other.rows.to(self.device), other.numbers)
        self.count += other.count
        self._batches += other._batches
        self.eps = [max(pair) for pair in zip(self.eps, other.eps)]

    def all_reduce(self) -> None:
        """Gather the rows of all ranks of the default process group on every rank, in rank order.

        Does nothing without a process group. A rank may have no samples; the widths must be equal on all
        ranks.
        """
        self.settle()
        if world_size() == 1:
            return
        shares: list[Any] = [None] * world_size()
        dtype = torch.float32 if self._store is None else self._store.dtype
        dist.all_gather_object(shares, (self.count, self._batches, self.eps, dtype))
        counts = [share[0] for share in shares]
        if not any(counts):
            return
        largest = max(counts)
        for share in shares:
            dtype = torch.promote_types(dtype, share[3])
        own = torch.zeros(largest, self.total_width, dtype=dtype, device=self.device)
        numbers = torch.zeros(largest, dtype=torch.int64, device=self.device)
        if self._store is not None:
            own[: self.count] = self.rows
            numbers[: self.count] = self.numbers.to(self.device)
        self._derived.clear()
        total = sum(counts)
        store, all_numbers, start = own.new_empty(total, self.total_width), numbers.new_empty(total), 0
        for rank, count in enumerate(counts):
            # One rank at a time: the buffer for one rank's rows is the only extra memory.
            theirs, their_numbers = own.clone(), numbers.clone()
            dist.broadcast(theirs, rank)
            dist.broadcast(their_numbers, rank)
            store[start : start + count] = theirs[:count]
            all_numbers[start : start + count] = their_numbers[:count]
            start += count
        self._store, self._arrived = store, [all_numbers.cpu()]
        self.count, self._batches = total, sum(share[1] for share in shares)
        self.eps = [max(values) for values in zip(*(share[2] for share in shares))]

    # -- reading ---------------------------------------------------------------------------------------------

    @property
    def rows(self) -> Tensor:
        """Concatenated features of all layers, (samples, P), in order of arrival (a view)."""
        self.require(1)
        assert self._store is not None
        return self._store[: self.count]

    def features(self, i: int) -> Tensor:
        """Features of layer ``i`` (from 0), shape (samples, width) (a view)."""
        return self.rows[:, self.blocks[i]]

    @property
    def numbers(self) -> Tensor:
        """Identifying number of each sample, as passed to `update`; default: its position. On the CPU."""
        if len(self._arrived) != 1 or self._arrived[0].device.type != "cpu":
            parts = [part.cpu() for part in self._arrived] or [torch.empty(0, dtype=torch.int64)]
            self._arrived = [torch.cat(parts)]
        return self._arrived[0]

    def select(self, samples: Tensor) -> PooledFeatures:
        """The features of some samples, given by position (from 0)."""
        part = PooledFeatures(self.widths, names=self.names, capacity=len(samples), device=self.device)
        part._add(self.rows[samples.to(self.device)], self.numbers[samples.cpu()])
        part.count, part._batches, part.eps = len(samples), self._batches, list(self.eps)
        return part

    def moments(self, samples: Tensor | None = None) -> LayerMoments:
        """Moments of these features, of some samples (given by position, from 0) or of all."""
        moments = LayerMoments(self.widths, names=self.names, device=self.device)
        rows = self.rows if samples is None else self.rows[samples.to(self.device)]
        for chunk in rows.split(CHUNK):
            moments.update([chunk[:, block] for block in self.blocks])
        moments.eps = list(self.eps)
        return moments

    @property
    def coordinates(self) -> tuple[int, ...]:
        return tuple(min(width, self.count) for width in self.widths)

    @property
    def means(self) -> Tensor:
        """Concatenated mean features of all layers, shape (P,)."""
        return self.once(_means)

    def mean(self, i: int) -> Tensor:
        return self.means[self.blocks[i]]

    def centered(self, samples: slice | Tensor, columns: slice = slice(None)) -> Tensor:
        """Features of some samples, given by position, minus the mean of all samples, in float64."""
        # Both relative to the first sample: a constant column is then exactly zero, however its mean rounds.
        start = self.rows[0, columns].double()
        return (self.rows[samples, columns].double() - start) - (self.means[columns] - start)

    def _chunks(self) -> Iterator[slice]:
        for start in range(0, self.count, CHUNK):
            yield slice(start, min(start + CHUNK, self.count))

    def _coordinates_of(self, i: int, samples: slice) -> Tensor:
        turned = self.once(_turned).get(i)
        return self.centered(samples, self.blocks[i]) if turned is None else turned[samples]

    def cross(self, i: int, j: int) -> Tensor:
        """Sum over samples of the outer products of layers ``i`` and ``j`` (from 0), both centered.

        Shape (width of i, width of j).
        """
        rows, columns = self.blocks[i], self.blocks[j]
        products = (self.centered(part, rows).T @ self.centered(part, columns) for part in self._chunks())
        return _added_up(products)

    def scatter(self, i: int) -> Tensor:
        parts = (self._coordinates_of(i, part) for part in self._chunks())
        return _added_up(part.T @ part for part in parts)

    def strip(self, i: int) -> Tensor:
        def product(part: slice) -> Tensor:
            coordinates = [self._coordinates_of(j, part) for j in range(i, len(self))]
            return coordinates[0].T @ torch.cat(coordinates, dim=1)

        return _added_up(map(product, self._chunks()))

    def _directions(self, i: int, samples: slice, whitening: Tensor | None = None) -> Tensor:
        """Coordinates of some samples in the basis of layer ``i``, or in a given candidate for it."""
        whitening = self.basis(i).whitening if whitening is None else whitening
        return self._coordinates_of(i, samples) @ whitening

    def _basis(self, i: int) -> Basis:
        # The scatter matrix squares the condition number of the features, so its small eigenvectors are
        # inaccurate. The features are stored: inner products of their coordinates in the candidate basis show
        # by how much it fails to be orthonormal, and `refine` corrects that.
        basis = super()._basis(i)
        parts = (self._directions(i, part, basis.whitening) for part in self._chunks())
        basis.refine(_added_up(part.T @ part for part in parts))
        return basis

    def coupling(self, strip: Strip) -> Tensor:
        def product(part: slice) -> Tensor:
            directions = [self._directions(j, part) for j in range(strip.i, len(self))]
            return directions[0].T @ torch.cat(directions, dim=1)

        return _added_up(map(product, self._chunks()))

    def mean_square(self, i: int) -> Tensor:
        return self.once(_mean_squares)[self.blocks[i]]

    def loadings(self, i: int) -> Tensor:
        parts = (self._directions(i, part).T @ self.centered(part, self.blocks[i]) for part in self._chunks())
        return _added_up(parts)

    def row_norms(self, samples: slice) -> Tensor:
        """Squared norm of some centered samples in each layer, (samples, layers)."""
        centered = self.centered(samples)
        parts = (centered[:, block] for block in self.blocks)
        return torch.stack([torch.linalg.vecdot(part, part) for part in parts], dim=1)

    def row_norm_products(self) -> Tensor:
        norms = map(self.row_norms, self._chunks())
        return _added_up(part.T @ part for part in norms)


def stored_rows(layers: LayerStatistics, what: str) -> PooledFeatures:
    """The statistics, if they are stored features.

    Args:
        layers: any statistics.
        what: the metric that needs them, for the message.

    Raises:
        PursuhintError: these are not `PooledFeatures`.
    """
    if not isinstance(layers, PooledFeatures):
        raise PursuhintError(
            f"{what} compares pairs of samples and needs the features themselves (PooledFeatures), "
            f"not {type(layers).__name__}; name the metric when collecting"
        )
    return layers


def _added_up(parts: Iterator[Tensor]) -> Tensor:
    total = next(parts)
    for part in parts:
        total += part
    return total


def _means(rows: PooledFeatures) -> Tensor:
    start = rows.rows[0].double()
    parts = ((rows.rows[part].double() - start).sum(0) for part in rows._chunks())
    return start + _added_up(parts) / rows.count


def _mean_squares(rows: PooledFeatures) -> Tensor:
    parts = (rows.rows[part].double().square().sum(0) for part in rows._chunks())
    return _added_up(parts) / rows.count


def _turned(rows: PooledFeatures) -> dict[int, Tensor]:
    """Rotated coordinates (samples, samples) of the layers with more features than samples, by index."""
    return {
        i: rotated(rows.centered(slice(None), block))
        for i, (block, width) in enumerate(zip(rows.blocks, rows.widths))
        if width > rows.count
    }
