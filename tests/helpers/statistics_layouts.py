"""The same features gathered in every form of layer statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from pursuhint.similarity import METRICS, LayerMoments, LayerStatistics, PooledFeatures, get_metric
from pursuhint.similarity.accumulators.multi_pass import MultiPassMoments

FORMS = ("moments", "rows", "blocks")

LINEAR_METRICS = [name for name in METRICS if get_metric(name).needs == "moments"]


def batches(layers: Sequence[Tensor], sizes: Sequence[int]) -> Iterator[list[Tensor]]:
    """The samples in batches of these sizes, over and over."""
    start = 0
    while start < len(layers[0]):
        for size in sizes:
            yield [layer[start : start + size] for layer in layers]
            start += size


def statistics_of(
    form: str,
    layers: Sequence[Tensor],
    sizes: Sequence[int] = (1, 7, 64),
    metrics: Sequence[str] = LINEAR_METRICS,
) -> LayerStatistics:
    """Statistics of a few layers; blocks take a pass for every two layers."""
    widths = [layer.shape[1] for layer in layers]
    statistics: LayerStatistics
    if form == "blocks":
        functions = [function for name in metrics for function in get_metric(name).strips]
        groups = [range(i, min(i + 2, len(widths))) for i in range(0, len(widths), 2)]
        statistics = MultiPassMoments(widths, functions, groups)
        for strips in statistics.passes():
            for batch in batches(layers, sizes):
                strips.update(batch)
        return statistics
    statistics = PooledFeatures(widths) if form == "rows" else LayerMoments(widths)
    for batch in batches(layers, sizes):
        statistics.update(batch)
    return statistics
