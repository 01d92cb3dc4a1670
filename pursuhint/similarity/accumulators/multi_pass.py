"""Second moments a few strips at a time, for more features than memory has room for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property

import torch
from torch import Tensor

from pursuhint.errors import PursuhintError
from pursuhint.similarity.accumulators.base import LayerStatistics, Strip, StripFunction
from pursuhint.similarity.accumulators.moments import LayerMoments, along_displacements

__all__ = ["MultiPassMoments"]


class MomentBlockRows(LayerMoments):
    """Moments of which only some strips are kept: those of a few neighbouring layers with all deeper ones.

    Beside these strips there is the scatter matrix of every layer. Does not merge.

    Args:
        widths: number of features of each layer.
        kept: the layers whose strips are kept.
        names: what to call each layer in error messages; ``layer 1``, ``layer 2``, ... by default.
        device: where they are kept; features are moved there if they are elsewhere.
    """

    _SUMS = ("_sum", "_norm_sum", "_norm_feature", "_norm_norm")

    def __init__(
        self,
        widths: Sequence[int],
        kept: range,
        *,
        names: Sequence[str] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        self.kept = kept
        super().__init__(widths, names=names, device=device)
        # Of a kept layer it is part of the strip.
        sizes = (0 if i in kept else width for i, width in enumerate(self.widths))
        self._own = [torch.zeros(size, size, dtype=self.dtype, device=self.device) for size in sizes]

    @cached_property
    def _columns(self) -> slice:
        """Of the kept layers."""
        return slice(self.blocks[self.kept.start].start, self.blocks[self.kept.stop - 1].stop)

    @property
    def _second_shape(self) -> tuple[int, int]:
        return self._columns.stop - self._columns.start, self.total_width - self._columns.start

    def _add_products(self, z: Tensor) -> None:
        first = self._columns.start
        for i, block in enumerate(self.blocks):
            if i in self.kept:
                rows = slice(block.start - first, block.stop - first)
                right = self._second[rows, block.start - first :]
                self._accumulate(right, z[:, block], z[:, block.start :])
            else:
                self._accumulate(self._own[i], z[:, block], z[:, block])

    def merge(self, other: LayerMoments) -> None:
        raise PursuhintError("strips of moments do not merge; raise the memory limit")

    def all_reduce(self) -> None:
        raise PursuhintError(
            "strips of moments are not added up over processes; raise the memory limit or use one process"
        )

    def cross(self, i: int, j: int) -> Tensor:
        """Cross-products of a layer whose strip is kept with a deeper one, or of any layer with itself."""
        if i in self.kept and j >= i:
            first = self._columns.start
            block, other = self.blocks[i], self.blocks[j]
            second = self._second[
                block.start - first : block.stop - first, other.start - first : other.stop - first
            ]
        elif i == j:
            second = self._own[i]
        else:
            raise PursuhintError(f"the products of {self.names[i]} with {self.names[j]} are not kept")
        block, other = self.blocks[i], self.blocks[j]
        return torch.addr(second, self._sum[block], self._sum[other], alpha=-1.0 / self.count)

    def forget(self) -> None:
        """Free the strips; the scatter matrices stay."""
        for i in self.kept:
            first, block = self._columns.start, self.blocks[i]
            own = slice(block.start - first, block.stop - first)
            self._own[i] = self._second[own, own].clone()
        self.kept = range(0)
        self._second = self._second.new_empty(0, 0)

    def strip(self, i: int) -> Tensor:
        if i not in self.kept:
            raise PursuhintError(f"the strip of {self.names[i]} is not kept")
        return torch.cat([self.cross(i, j) for j in range(i, len(self))], dim=1)


class MultiPassMoments(LayerStatistics):
    """Similarities of all pairs of layers from several passes over the same samples.

    Each pass accumulates the second moments of a few layers with all deeper ones, evaluates what the metrics
    ask of them, and frees them. Memory is that of the largest group of strips and one scatter matrix a layer;
    time is one pass over the data, through the network, for every group. So this form knows the metrics that
    were named beforehand and no others.

    Args:
        widths: number of features of each layer.
        functions: what metrics ask of strips (`pursuhint.similarity.Metric.strips`).
        groups: the layers of each pass, from `passes_within`.
        names: what to call each layer in error messages; ``layer 1``, ``layer 2``, ... by default.
        device: where they are kept; features are moved there if they are elsewhere.

    Raises:
        PursuhintError: there is no layer, a width is not positive, or the number of names differs.

    Example:
        >>> from pursuhint.similarity.cka import linear_cka_matrix, scaled_squared_norms
        >>> features = [torch.randn(50, 4), torch.randn(50, 6)]
        >>> layers = MultiPassMoments([4, 6], [scaled_squared_norms], [range(0, 1), range(1, 2)])
        >>> for strips in layers.passes():
        ...     strips.update(features)
        >>> linear_cka_matrix(layers).shape
        torch.Size([2, 2])
    """

    def __init__(
        self,
        widths: Sequence[int],
        functions: Sequence[StripFunction],
        groups: Sequence[range],
        *,
        names: Sequence[str] | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(widths, names=names, device=device)
        self.groups = tuple(groups)
        self._tables = {function: self._table() for function in (*functions, along_displacements)}
        self._first: MomentBlockRows | None = None
        self._done = 0

    def passes(self) -> Iterator[MomentBlockRows]:
        """Statistics to fill, each with all samples before the next is taken.

        Raises:
            PursuhintError: the passes saw different numbers of samples, or fewer than two.
        """
        for group in self.groups:
            strips = MomentBlockRows(self.widths, group, names=self.names, device=self.device)
            if self._first is not None and self._first.shift is not None:
                strips.start_from(self._first.shift)
            yield strips
            strips.require(2)
            if self._first is None:
                self._first, self.count, self.eps = strips, strips.count, strips.eps
            if strips.count != self.count:
                raise PursuhintError(
                    f"pass {self._done + 1} over the data saw {strips.count} samples, the first {self.count}"
                )
            strips._derived = self._first._derived
            for i in group:
                self._enter(self._tables, Strip(strips, i))
            strips.forget()
            self._done += 1

    def _side_by_side(self, features: Sequence[Tensor]) -> Tensor:
        raise PursuhintError("add samples to what passes() gives")

    def _add(self, z: Tensor, samples: Tensor | None) -> None:
        raise PursuhintError("add samples to what passes() gives")

    # -- reading ---------------------------------------------------------------------------------------------

    @property
    def _seen(self) -> MomentBlockRows:
        if self._first is None or self._done < len(self.groups):
            raise PursuhintError(f"{self._done} of {len(self.groups)} passes over the data are done")
        return self._first

    def sweep(self, functions: Iterable[StripFunction]) -> None:
        """Make sure that these functions were evaluated in the passes.

        Raises:
            PursuhintError: passes are missing, or a function was not named beforehand.
        """
        self._derived = self._seen._derived
        if any(function not in self._tables for function in functions):
            raise PursuhintError(
                "these statistics were collected for other metrics; name all metrics when collecting"
            )
        self._derived |= self._tables

    def mean(self, i: int) -> Tensor:
        return self._seen.mean(i)

    def scatter(self, i: int) -> Tensor:
        return self._seen.scatter(i)

    def mean_square(self, i: int) -> Tensor:
        return self._seen.mean_square(i)

    def strip(self, i: int) -> Tensor:
        raise PursuhintError("strips are not kept after their pass over the data")

    def loadings(self, i: int) -> Tensor:
        return self._seen.loadings(i)

    def row_norm_products(self) -> Tensor:
        self.sweep([])
        return self._seen.row_norm_products()


def passes_within(widths: Sequence[int], room: int) -> tuple[range, ...] | None:
    """Divide the strips of all layers into groups that fit.

    Args:
        widths: number of features of each layer.
        room: bytes for the strips of a group, and for one scatter matrix a layer.

    Returns:
        The layers of each group, or None if not even the largest strip fits.
    """
    left = room - 8 * sum(width * width for width in widths)
    groups, start, used = [], 0, 0
    for i, width in enumerate(widths):
        size = 8 * width * sum(widths[start:])
        if used and used + size > left:
            groups.append(range(start, i))
            start, used = i, 0
            size = 8 * width * sum(widths[i:])
        if size > left:
            return None
        used += size
    return (*groups, range(start, len(widths)))
