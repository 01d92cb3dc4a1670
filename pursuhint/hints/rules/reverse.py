"""The layers of ``even`` with their order reversed: arXiv 2502.04499.

The deepest layer teaches the shallowest point of the student. ``even`` takes the same layers, so that the
two differ in the pairing alone.
"""

from __future__ import annotations

from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.rules import even
from pursuhint.hints.rules.source import RuleSource


def choose(source: RuleSource) -> list[HintPoint]:
    """As ``even``; the table of rules names the pairing."""
    return even.choose(source)
