"""The layer with the highest score in each of the best contiguous groups."""

from __future__ import annotations

from collections.abc import Sequence

from pursuhint.clustering.segments import segments
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.rules.source import RuleSource


def best_of_segments(source: RuleSource, rule: str, scores: Sequence[float]) -> list[HintPoint]:
    """One layer of each of k segments of the similarity: that of the highest score, the shallower on a tie.

    Args:
        source: with a similarity. Layers that it leaves out (they do not vary) are not chosen.
        rule: name of the rule, for messages.
        scores: of the points of the source, in their order.
    """
    similarity = source.needed_similarity(rule)
    by_name = {(point.module, point.activation): score for point, score in zip(source.points, scores)}
    if source.k == 1:
        groups = [tuple(range(len(similarity.points)))]
    else:
        clustering = segments(similarity.values, source.k)
        groups = [clustering.members(group) for group in range(clustering.k)]

    def score(layer: int) -> float:
        point = similarity.points[layer]
        return by_name[point.module, point.activation]

    return [similarity.points[max(group, key=score)] for group in groups]
