"""Hint plans: which layers of the teacher teach which layers of the student, and how they are chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pursuhint._util.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from pursuhint.hints.plan import HintPlan, check_position, choose_positions, default_k
    from pursuhint.hints.selection import (
        HintSelector,
        Resampled,
        StoredSimilarity,
        choose_plan,
        stability_of_choice,
    )

__getattr__, __dir__, __all__ = lazy_exports(__name__, "POSITIONS")

POSITIONS = ("center", "last", "first", "medoid")
"""Which member of a cluster becomes its hint position."""
