"""The same features gathered in both layouts of layer statistics."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from pursuhint.similarity import METRICS, LayerMoments, LayerStatistics, PooledFeatures, get_metric

LAYOUTS = ("moments", "rows")

LINEAR_METRICS = [name for name in METRICS if get_metric(name).needs == "moments"]


def batches(layers: Sequence[Tensor], sizes: Sequence[int]) -> Iterator[list[Tensor]]:
    """The samples in batches of these sizes, over and over."""
    start = 0
    while start < len(layers[0]):
        for size in sizes:
            yield [layer[start : start + size] for layer in layers]
            start += size


def statistics_of(
    layout: str,
    layers: Sequence[Tensor],
    sizes: Sequence[int] = (1, 7, 64),
) -> LayerStatistics:
    """Statistics of a few layers."""
    widths = [layer.shape[1] for layer in layers]
    statistics: LayerStatistics = PooledFeatures(widths) if layout == "rows" else LayerMoments(widths)
    for batch in batches(layers, sizes):
        statistics.update(batch)
    return statistics
