"""The ends of k equal parts of the depth.

Called "forward" and recommended as the default in arXiv 2502.04499; the layers of TinyBERT.
"""

from __future__ import annotations

from pursuhint.features.hint_points import HintPoint, even_points
from pursuhint.hints.rules.source import RuleSource


def choose(source: RuleSource) -> list[HintPoint]:
    """Part p of k ends at layer number floor(p * layers / k), counted from 1."""
    return list(even_points(source.points, source.k))
