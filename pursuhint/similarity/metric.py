"""What a similarity metric is: a function of two matrices, and the same for all pairs of layers at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from pursuhint.errors import PursuhintError
from pursuhint.similarity.accumulators.base import LayerStatistics, StripFunction
from pursuhint.similarity.accumulators.shards import MomentShards, RowShards

__all__ = ["Metric", "similarities_between", "similarity_matrices"]

Needs = Literal["moments", "rows"]


@dataclass(frozen=True)
class Metric:
    """A named similarity of representation matrices.

    Attributes:
        name: as in `pursuhint.similarity.METRICS`.
        title: for figures and reports, ``"linear CKA"``.
        pair: function of two representation matrices (samples, features); returns a float64 scalar.
        matrix: similarities of all pairs of layers from their statistics, (layers, layers), float64.
        strips: functions of strips of cross-products that ``matrix`` uses, if any.
        needs: ``"moments"``, which any `LayerStatistics` provides, or ``"rows"``: the stored features.
        symmetric: whether x and y have the same similarity as y and x. If not, row i of the matrix is the
            view of layer i, and what needs a symmetric matrix takes the mean with the transpose.
        on_subsamples: computes the matrices of several subsamples in one call, (subsamples, layers, layers),
            from the moments of the shards and a boolean table (subsamples, shards); None if subsamples are
            computed one by one.
        on_row_subsamples: like ``on_subsamples``, from shards of features instead of moments.
        many_subsamples: whether a hundred subsamples cost little more than a few.
        samples: smallest number of samples.
        samples_per_feature: how many samples each feature of the widest layer takes; with fewer, chance alone
            gives unrelated layers half of the largest similarity or more. 0 if the width does not matter.
        single: whether products of features may be computed in float32, with sums in float64, at an error
            below 1e-4.
    """

    name: str
    title: str
    pair: Callable[[Tensor, Tensor], Tensor]
    matrix: Callable[[LayerStatistics], Tensor]
    strips: tuple[StripFunction, ...] = ()
    needs: Needs = "moments"
    symmetric: bool = True
    samples: int = 2
    samples_per_feature: int = 0
    single: bool = False
    on_subsamples: Callable[[MomentShards, Tensor], Tensor] | None = None
    on_row_subsamples: Callable[[RowShards, Tensor], Tensor] | None = None
    many_subsamples: bool = False

    def subsample_function(self, shards: MomentShards | RowShards) -> Callable[[Tensor], Tensor] | None:
        """The function that computes the matrices of many subsamples of these shards in one call, if any."""
        if isinstance(shards, RowShards):
            return None if self.on_row_subsamples is None else partial(self.on_row_subsamples, shards)
        return None if self.on_subsamples is None else partial(self.on_subsamples, shards)


def similarity_matrices(layers: LayerStatistics, metrics: Sequence[Metric]) -> dict[str, Tensor]:
    """Similarities of all pairs of layers by several metrics, which share intermediate results.

    Args:
        layers: statistics of at least two samples.
        metrics: from `pursuhint.similarity.get_metric`.

    Returns:
        For each metric's name (layers, layers), float64, as its `Metric.matrix`.

    Raises:
        PursuhintError: there are too few samples, or a metric needs another kind of statistics.
    """
    layers.sweep(function for metric in metrics for function in metric.strips)
    return {metric.name: metric.matrix(layers) for metric in metrics}


def similarities_between(layers: LayerStatistics, first: int, metrics: Sequence[Metric]) -> dict[str, Tensor]:
    """Similarities of the first few layers to all others, for two networks in one `LayerStatistics`.

    Args:
        layers: joint statistics of all layers of one network and then all of another.
        first: how many layers the first network has.
        metrics: from `pursuhint.similarity.get_metric`.

    Returns:
        For each metric's name (first, layers - first), float64. Of a metric that is not symmetric, the view
        of the first network's layers.

    Raises:
        PursuhintError: as `similarity_matrices`, or either network has no layers.
    """
    if not 0 < first < len(layers):
        raise PursuhintError(f"the first network must have 1 to {len(layers) - 1} of the layers, got {first}")
    matrices = similarity_matrices(layers, metrics)
    return {name: matrix[:first, first:] for name, matrix in matrices.items()}


def masked(values: Tensor, layers: LayerStatistics) -> Tensor:
    """Set the rows and columns of layers that do not vary to NaN, in place."""
    constant = list(layers.constant_layers())
    values[constant, :] = torch.nan
    values[:, constant] = torch.nan
    return values


def undefined(like: Tensor) -> Tensor:
    """The similarity to something without variance: 0/0, a float64 scalar NaN."""
    return torch.full((), torch.nan, dtype=torch.float64, device=like.device)
