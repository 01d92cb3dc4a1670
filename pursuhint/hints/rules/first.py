"""The first k layers: a control that puts all hints where no class is decided yet."""

from __future__ import annotations

from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.rules.source import RuleSource


def choose(source: RuleSource) -> list[HintPoint]:
    """Layers 1 to k."""
    return list(source.points[: source.k])
