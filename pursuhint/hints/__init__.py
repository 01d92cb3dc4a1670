"""Hint plans: pairs of a teacher layer and the student layer that learns from it, and their selection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pursuhint._util.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from pursuhint.hints.options import SelectionOptions, check_position, default_k
    from pursuhint.hints.plan import HintPlan, choose_positions
    from pursuhint.hints.rules import RULES, Rule, choose_by_rule
    from pursuhint.hints.rules.source import RuleSource
    from pursuhint.hints.schedules import SCHEDULES, Curriculum, DrawnEachEpoch, Schedule
    from pursuhint.hints.selection import (
        Resampled,
        StoredSimilarity,
        choose_plan,
        stability_of_choice,
    )

__getattr__, __dir__, __all__ = lazy_exports(__name__, "POSITIONS")

POSITIONS = ("center", "last", "first", "medoid")
"""Names of the rules that pick the hint position from a cluster; see `choose_positions`."""
