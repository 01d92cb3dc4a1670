"""The layer of the highest knowledge quality in each contiguous group: arXiv 2511.14981.

The quality is ``quality`` of `pursuhint.analysis.ClassCurves`: how far the features of 2,000 images separate
the classes, and how much they hold beside that. The groups are the clusters of ``segments``.
"""

from __future__ import annotations

from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.rules.best_of_segments import best_of_segments
from pursuhint.hints.rules.source import RuleSource


def choose(source: RuleSource) -> list[HintPoint]:
    """The layer of each segment of the similarity with the highest quality."""
    scores = source.needed_curve("quality", "quality")
    return best_of_segments(source.needed_similarity("quality"), source.k, scores)
