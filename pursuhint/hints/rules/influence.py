"""Groups of layers that end where neighbours differ most: the greedy rival of ``segments``.

Boundaries are the k - 1 smallest similarities of neighbouring layers, as ShortGPT (Men et al., 2024) ranks
layers by the change that each makes. Unlike its block influence, a cosine of features before and after a
block, the similarity is defined for layers of different widths.
"""

from __future__ import annotations

import numpy as np

from pursuhint.clustering.inertia import checked_similarity, inertia_of
from pursuhint.clustering.result import Clustering
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.plan import SimilarityLike, choose_positions
from pursuhint.hints.rules.source import RuleSource


def choose(source: RuleSource) -> list[HintPoint]:
    """One layer of each group, by ``position``; the shallower boundary where similarities tie."""
    similarity = source.needed_similarity("influence")
    chosen = choose_positions(groups(similarity, source.k), source.position, similarity.values)
    return [similarity.points[layer] for layer in chosen]


def groups(similarity: SimilarityLike, k: int) -> Clustering:
    """k contiguous groups of layers, cut where neighbours are least similar."""
    matrix = checked_similarity(similarity.values, normalize=False)
    neighbours = np.diagonal(matrix, offset=1)
    boundaries = np.sort(np.argsort(neighbours, kind="stable")[: k - 1]) + 1
    labels = np.searchsorted(boundaries, np.arange(len(matrix)), side="right")
    return Clustering(tuple(labels.tolist()), inertia_of(matrix, labels), 1, "influence")
