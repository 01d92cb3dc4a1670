"""The choice of hint points as the ridge of ridge CCA grows: from CCA to CKA."""

from __future__ import annotations

from collections.abc import Sequence

from pursuhint.analysis.findings import RidgeChoices
from pursuhint.clustering import get_algorithm
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.options import SelectionOptions
from pursuhint.hints.plan import choose_positions
from pursuhint.similarity import linear_cka_matrix, ridge_cca_sweep
from pursuhint.similarity.accumulators.base import LayerStatistics

RIDGES = (0.0, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
"""Shares of a layer's variance; beyond the last one the similarities differ from CKA by little."""


def choices_over_ridges(
    statistics: LayerStatistics,
    points: Sequence[HintPoint],
    kept: Sequence[int],
    options: SelectionOptions,
    k: int,
) -> RidgeChoices:
    """Hint positions for every ridge, and for its limit, CKA; all from the same statistics.

    Args:
        statistics: of all layers.
        points: of these.
        kept: indices of the layers to choose from.
        options: algorithm and member of a group; ``k`` counts instead of theirs.
        k: number of hints.
    """
    cluster = get_algorithm(options.algorithm)
    matrices = [*ridge_cca_sweep(statistics, RIDGES), linear_cka_matrix(statistics)]
    positions = []
    for matrix in matrices:
        values = matrix.cpu()[list(kept)][:, list(kept)]
        chosen = choose_positions(cluster(values, k), options.position, values)
        positions.append(tuple(points[kept[layer]].position for layer in chosen))
    return RidgeChoices(RIDGES, tuple(positions[:-1]), positions[-1])
