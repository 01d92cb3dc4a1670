r"""Streamed second moments of the features of all layers.

Concatenate the pooled features of a batch, layer after layer, to a matrix :math:`Z` of shape (batch, P),
where P is the sum of the widths. The sum of its rows and the P x P second moment :math:`\sum Z^\top Z`, one
matrix product a batch, suffice for every metric built from cross-products of layers (linear CKA, the CCA
family), for all pairs of layers, in memory independent of the number of samples. Debiased CKA also needs each
sample's squared norm in each layer, multiplied with the features. Moments merge by addition, so shards,
devices and ranks combine exactly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch import distributed as dist

from pursuhint._util.distributed import rank, world_size
from pursuhint.errors import PursuhintError
from pursuhint.similarity.accumulators.base import LayerStatistics, Strip

__all__ = ["LayerMoments"]


@dataclass(frozen=True, eq=False)
class MomentSums:
    """The sums of a `LayerMoments`, without its shift.

    Attributes:
        count: number of samples.
        batches: number of batches.
        eps: machine epsilon of each layer's input dtype; 0 without samples.
        tensors: the sums by name. The second moment is packed: for each layer its rows, from its own columns
            on, flattened and concatenated. The rest follows by symmetry.
    """

    count: int
    batches: int
    eps: tuple[float, ...]
    tensors: Mapping[str, Tensor]

    @property
    def bytes(self) -> int:
        """Memory of the tensors."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    def plus(self, other: MomentSums) -> MomentSums:
        """The sums of these samples and of others, about the same shift."""
        return MomentSums(
            self.count + other.count,
            self.batches + other.batches,
            tuple(map(max, self.eps, other.eps)),
            {
                name: tensor.to(other.tensors[name]) + other.tensors[name]
                for name, tensor in self.tensors.items()
            },
        )

    def to(self, device: torch.device | str) -> MomentSums:
        """A copy on another device."""
        return MomentSums(
            self.count,
            self.batches,
            self.eps,
            {name: tensor.to(device) for name, tensor in self.tensors.items()},
        )


class _Sums(NamedTuple):
    """The sums of a `LayerMoments` about some shift; fields are named like its attributes."""

    sum: Tensor
    second: Tensor
    norm_sum: Tensor
    norm_feature: Tensor
    norm_norm: Tensor


class LayerMoments(LayerStatistics):
    """Count, sums and joint second moment of the features of all layers, streamed in batches.

    A fixed shift, the mean of the first batch, is subtracted from all features before they are summed: pooled
    ReLU features have means of 8 to 34 standard deviations, and without the shift most digits would hold the
    mean. Sums are kept in float64 for any input dtype. Results depend on batch size and order by about
    1e-13 only.

    Memory is ``8 * sum(widths) ** 2`` bytes: 33 MB for the 54 blocks of resnet110.

    Args:
        widths: number of features of each layer.
        names: what to call each layer in error messages; ``layer 1``, ``layer 2``, ... by default.
        dtype: dtype of the sums.
        products: dtype of the matrix products within a batch; default: ``dtype``. With float32, for devices
            that are slow in float64, CKA and Procrustes are off by about 1e-6; CCA inverts small eigenvalues
            and can be off by any amount.
        device: where they are kept; features are moved there if they are elsewhere.

    Raises:
        PursuhintError: there is no layer, a width is not positive, or the number of names differs.

    Example:
        >>> moments = LayerMoments([4, 6])
        >>> for x, y in zip(torch.randn(3, 50, 4), torch.randn(3, 50, 6)):
        ...     moments.update([x, y])
        >>> moments.count, moments.cross(0, 1).shape
        (150, torch.Size([4, 6]))
    """

    _SUMS: tuple[str, ...] = ("_sum", "_second", "_norm_sum", "_norm_feature", "_norm_norm")
    """Attributes that are additive for a common shift. Only the upper triangle of ``_second`` is valid."""

    def __init__(
        self,
        widths: Sequence[int],
        *,
        names: Sequence[str] | None = None,
        dtype: torch.dtype = torch.float64,
        products: torch.dtype | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(widths, names=names, device=device)
        self.dtype = dtype
        self.products = dtype if products is None else products
        self._shift: Tensor | None = None

        def zeros(*shape: int) -> Tensor:
            return torch.zeros(shape, dtype=dtype, device=self.device)

        layers, width = len(self), self.total_width
        self._sum = zeros(width)
        self._second = zeros(width, width)
        # With |z_i|^2 a sample's squared norm in layer i: the sums over samples of |z_i|^2, of |z_i|^2 z and
        # of |z_i|^2 |z_j|^2, for debiased CKA.
        self._norm_sum = zeros(layers)
        self._norm_feature = zeros(layers, width)
        self._norm_norm = zeros(layers, layers)

    # -- accumulating ----------------------------------------------------------------------------------------

    def _side_by_side(self, features: Sequence[Tensor]) -> Tensor:
        return torch.cat([layer.detach().to(self.device, self.products) for layer in features], dim=1)

    def _add(self, z: Tensor, samples: Tensor | None = None) -> None:
        if self._shift is None:
            # Computed relative to the first sample, so that a constant column is shifted to exactly zero and
            # is not mistaken for a direction that varies by rounding errors.
            self._shift = (z[0] + (z - z[0]).mean(0)).to(self.dtype)
        z -= self._shift.to(z)
        norms = torch.stack([torch.linalg.vecdot(z[:, block], z[:, block]) for block in self.blocks], dim=1)
        self._sum += z.sum(0, dtype=self.dtype)
        self._norm_sum += norms.sum(0, dtype=self.dtype)
        self._accumulate(self._norm_feature, norms, z)
        self._accumulate(self._norm_norm, norms, norms)
        for rows in self._chunks:
            right = slice(rows.start, None)
            self._accumulate(self._second[rows, right], z[:, rows], z[:, right])

    @staticmethod
    def _accumulate(total: Tensor, left: Tensor, right: Tensor) -> None:
        if left.dtype == total.dtype:
            total.addmm_(left.T, right)
        else:
            total += left.T @ right

    @cached_property
    def _chunks(self) -> tuple[slice, ...]:
        """Columns of consecutive layers, grouped to at least a hundred.

        The second moment is symmetric: for each group only the columns from its start on are computed, which
        is little more than half of the work. Smaller groups would save more but waste the matrix unit.
        """
        enough = max(128, self.total_width // 12)
        chunks, start = [], 0
        for block in self.blocks:
            if block.stop - start >= enough or block.stop == self.total_width:
                chunks.append(slice(start, block.stop))
                start = block.stop
        return tuple(chunks)

    def merge(self, other: LayerMoments) -> None:
        """Add the moments of other samples of the same layers.

        Exact for any two shifts: moments about another point follow algebraically.

        Raises:
            PursuhintError: the widths differ.
        """
        if other.widths != self.widths:
            raise PursuhintError(f"cannot merge moments of widths {other.widths} into widths {self.widths}")
        if other._shift is None:
            return
        if self._shift is None:
            self._shift = other._shift.to(self.device, self.dtype)
        self._derived.clear()
        for name, sums in zip(self._SUMS, other._about(self._shift)):
            getattr(self, name).add_(sums)
        self.count += other.count
        self._batches += other._batches
        self.eps = [max(pair) for pair in zip(self.eps, other.eps)]

    def _about(self, shift: Tensor) -> _Sums:
        """Translate the sums to another shift; in the order of `_SUMS`."""
        assert self._shift is not None
        sums = _Sums(*(getattr(self, name).to(shift) for name in self._SUMS))
        step = self._shift.to(shift) - shift
        if not bool(step.any()):
            return sums
        total, upper, norm_sum, norm_feature, norm_norm = sums
        second = upper.triu() + upper.triu(1).T
        # With z' = z + step, the squared norm in a layer is |z'|^2 = |z|^2 + 2 step'z + |step|^2: the old
        # norm, plus a linear function of the features (a column of `mix`), plus a constant. Expanding the
        # products of these three terms gives the new sums from the old ones.
        mix = torch.zeros(self.total_width, len(self), dtype=shift.dtype, device=shift.device)
        for i, block in enumerate(self.blocks):
            mix[block, i] = 2 * step[block]
        constant = torch.stack([step[block].square().sum() for block in self.blocks])
        # sum |z|^2 + 2 step'z, the new norms without their constant.
        mixed = norm_sum + total @ mix
        # sum |z'|^2 z' = sum (|z|^2 + mix'z + constant) (z + step).
        new_norm_feature = norm_feature + mix.T @ second + torch.outer(constant, total)
        new_norm_feature += torch.outer(mixed + self.count * constant, step)
        # sum |z_i'|^2 |z_j'|^2: norm times norm, norm times linear (both ways), linear times linear,
        # constants.
        both = norm_feature @ mix
        new_norm_norm = norm_norm + both + both.T + mix.T @ (second @ mix)
        outer = torch.outer(mixed, constant)
        new_norm_norm += outer + outer.T + self.count * torch.outer(constant, constant)
        # sum z' z'' = sum (z + step) (z + step)'.
        outer = torch.outer(total, step)
        second += outer + outer.T + self.count * torch.outer(step, step)
        return _Sums(
            total + self.count * step,
            second,
            mixed + self.count * constant,
            new_norm_feature,
            new_norm_norm,
        )

    @property
    def shift(self) -> Tensor | None:
        """The vector subtracted from all features, shape (P,); None before the first batch."""
        return self._shift

    def start_from(self, shift: Tensor) -> None:
        """Set the shift, instead of the mean of the first batch.

        Args:
            shift: shape (P,).

        Raises:
            PursuhintError: the shift has another shape, or samples were added already.
        """
        if shift.shape != (self.total_width,):
            raise PursuhintError(
                f"the shift must be of shape ({self.total_width},), got {tuple(shift.shape)}"
            )
        if self.count:
            raise PursuhintError(f"the shift is fixed: {self.count} samples were added")
        self._shift = shift.to(self.device, self.dtype)

    def empty_like(self) -> LayerMoments:
        """Empty moments of the same layers, with the same shift."""
        empty = LayerMoments(
            self.widths, names=self.names, dtype=self.dtype, products=self.products, device=self.device
        )
        empty._shift = self._shift
        return empty

    def take(self) -> MomentSums:
        """Return all sums and reset them to zero; the shift stays."""
        sums = self.sums()
        self.clear()
        return sums

    def clear(self) -> None:
        """Reset all sums to zero; the shift stays."""
        self._derived.clear()
        for name in self._SUMS:
            getattr(self, name).zero_()
        self.count, self._batches, self.eps = 0, 0, [0.0] * len(self)

    def sums(self) -> MomentSums:
        """A copy of all sums."""
        tensors = {
            name.removeprefix("_"): getattr(self, name).clone() for name in self._SUMS if name != "_second"
        }
        tensors["second"] = torch.cat([strip.flatten() for strip in self._strips()])
        return MomentSums(self.count, self._batches, tuple(self.eps), tensors)

    def add(self, sums: MomentSums, *, sign: int = 1) -> None:
        """Add or subtract the sums of moments with the same layers and shift.

        Args:
            sums: on any device.
            sign: 1 to add, -1 to subtract.
        """
        self._derived.clear()
        for name in self._SUMS:
            if name != "_second":
                getattr(self, name).add_(sums.tensors[name.removeprefix("_")].to(self.device), alpha=sign)
        strips = self._strips()
        packed = sums.tensors["second"].split([strip.numel() for strip in strips])
        for strip, values in zip(strips, packed):
            strip.add_(values.to(self.device).view(strip.shape), alpha=sign)
        self.count += sign * sums.count
        self._batches += sign * sums.batches
        self.eps = [max(pair) for pair in zip(self.eps, sums.eps)]

    def _strips(self) -> list[Tensor]:
        """For each layer its rows of the second moment, from its own columns on (views)."""
        return [self._second[block, block.start :] for block in self.blocks]

    def all_reduce(self) -> None:
        """Sum the moments of all ranks of the default process group; every rank then has the total.

        The shift of the first rank with samples is broadcast, and all ranks translate their sums to it, so
        that the sums are additive. Does nothing without a process group. A rank may have no samples; the
        widths must be equal on all ranks.
        """
        self.settle()
        world = world_size()
        if world == 1:
            return
        source = torch.tensor(rank() if self.count else world, device=self.device)
        dist.all_reduce(source, dist.ReduceOp.MIN)
        if int(source) == world:
            return
        self._derived.clear()
        shift = torch.zeros_like(self._sum) if self._shift is None else self._shift.clone()
        dist.broadcast(shift, int(source))
        if self._shift is not None:
            for name, sums in zip(self._SUMS, self._about(shift)):
                setattr(self, name, sums)
        self._shift = shift
        counts = torch.tensor([self.count, self._batches], device=self.device)
        eps = torch.tensor(self.eps, dtype=self.dtype, device=self.device)
        for tensor in (*(getattr(self, name) for name in self._SUMS), counts):
            dist.all_reduce(tensor)
        dist.all_reduce(eps, dist.ReduceOp.MAX)
        self.count, self._batches = (int(value) for value in counts)
        self.eps = eps.tolist()

    # -- reading ---------------------------------------------------------------------------------------------

    def mean(self, i: int) -> Tensor:
        self.require(1)
        assert self._shift is not None
        block = self.blocks[i]
        return self._shift[block] + self._sum[block] / self.count

    def cross(self, i: int, j: int) -> Tensor:
        """Sum over samples of the outer products of layers ``i`` and ``j`` (from 0), both centered.

        Shape (width of i, width of j); ``cross(i, i)`` is the scatter matrix, ``count`` times the covariance.
        """
        if i > j:
            return self.cross(j, i).T
        return self._centered(self.blocks[i], self.blocks[j])

    def scatter(self, i: int) -> Tensor:
        return self.cross(i, i)

    def mean_square(self, i: int) -> Tensor:
        return self.cross(i, i).diagonal() / self.count + self.mean(i).square()

    def strip(self, i: int) -> Tensor:
        return self._centered(self.blocks[i], slice(self.blocks[i].start, None))

    def _centered(self, rows: slice, columns: slice) -> Tensor:
        self.require(1)
        return torch.addr(
            self._second[rows, columns], self._sum[rows], self._sum[columns], alpha=-1.0 / self.count
        )

    def loadings(self, i: int) -> Tensor:
        return self.basis(i).whitening.T @ self.scatter(i)

    def row_norm_products(self) -> Tensor:
        # With d the mean of the shifted features z of a layer, |z - d|^2 = |z|^2 - 2 d'z + |d|^2. The product
        # for layers i and j has nine terms. The projections multiply to 4 d_i' (C_ij + n d_i d_j') d_j; its
        # second part cancels the two sums of -2 |d_j|^2 d_i'z, which are -2 n |d_i|^2 |d_j|^2 each.
        step = self.displacement
        own = torch.stack([step[block].square().sum() for block in self.blocks])
        mixed = torch.stack([self._norm_feature[:, block] @ step[block] for block in self.blocks], dim=1)
        outer = torch.outer(self._norm_sum, own)
        return (
            self._norm_norm
            - 2 * (mixed + mixed.T)
            + 4 * self.over_strips(along_displacements)
            + outer
            + outer.T
            + self.count * torch.outer(own, own)
        )

    @property
    def displacement(self) -> Tensor:
        """Distance of the mean from the shift, shape (P,)."""
        self.require(1)
        return self._sum / self.count


def along_displacements(strip: Strip) -> Tensor:
    """Centered cross-products between the displacements of both layers, d_i' C_ij d_j, for each j >= i."""
    layers = strip.layers
    assert isinstance(layers, LayerMoments)
    step = layers.displacement
    columns = (step[layers.blocks[strip.i]] @ strip.cross) * step[layers.blocks[strip.i].start :]
    sums = torch.zeros(len(layers) - strip.i, dtype=columns.dtype, device=columns.device)
    return sums.index_add_(0, strip.layer_of_column, columns)
