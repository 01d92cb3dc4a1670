"""The last k layers: PKD-last of Sun et al., Patient Knowledge Distillation, EMNLP 2019."""

from __future__ import annotations

from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.rules.source import RuleSource


def choose(source: RuleSource) -> list[HintPoint]:
    """The k deepest layers."""
    return list(source.points[-source.k :])
