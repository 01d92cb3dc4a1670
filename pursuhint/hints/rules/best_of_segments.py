"""The layer with the highest score in each of the best contiguous groups."""

from __future__ import annotations

from collections.abc import Sequence

from pursuhint.clustering.segments import segments
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.plan import SimilarityLike


def best_of_segments(similarity: SimilarityLike, k: int, scores: Sequence[float]) -> list[HintPoint]:
    """The layer with the highest score in each of k segments of the similarity, the shallower on a tie.

    Args:
        similarity: of the layers that may be chosen.
        k: number of segments.
        scores: of its layers, in their order.
    """
    if k == 1:
        groups = [tuple(range(len(similarity.points)))]
    else:
        clustering = segments(similarity.values, k)
        groups = [clustering.members(group) for group in range(clustering.k)]
    return [similarity.points[max(group, key=lambda layer: scores[layer])] for group in groups]
