"""Many runs and what they show together: comparisons with honest statistics.

Importing this package imports no torch; the names below are resolved when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pursuhint._util.registry import resolve
from pursuhint.study.arms import ARMS, CONTROLS, Arm

if TYPE_CHECKING:
    from pursuhint.study.comparison import ArmResult, Comparison, SeedResult
    from pursuhint.study.events import ArmFinished, ArmResumed, ArmsStarted, PhaseStarted
    from pursuhint.study.method_comparison import MethodComparison, MethodResult
    from pursuhint.study.paired_statistics import (
        PairedComparison,
        Summary,
        compare_pairs,
        conclusion,
        correct_for_multiplicity,
        detectable_difference,
        holm,
        summarize,
    )
    from pursuhint.study.run_comparison import compare
    from pursuhint.study.run_methods import compare_methods

__all__ = [
    "ARMS",
    "CONTROLS",
    "Arm",
    "ArmFinished",
    "ArmResult",
    "ArmResumed",
    "ArmsStarted",
    "Comparison",
    "MethodComparison",
    "MethodResult",
    "PairedComparison",
    "PhaseStarted",
    "SeedResult",
    "Summary",
    "compare",
    "compare_methods",
    "compare_pairs",
    "conclusion",
    "correct_for_multiplicity",
    "detectable_difference",
    "holm",
    "summarize",
]

_HOMES = {
    "ArmFinished": "events",
    "ArmResult": "comparison",
    "ArmResumed": "events",
    "ArmsStarted": "events",
    "Comparison": "comparison",
    "MethodComparison": "method_comparison",
    "MethodResult": "method_comparison",
    "PhaseStarted": "events",
    "SeedResult": "comparison",
    "compare": "run_comparison",
    "compare_methods": "run_methods",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve(f"{__name__}.{_HOMES.get(name, 'paired_statistics')}:{name}")
