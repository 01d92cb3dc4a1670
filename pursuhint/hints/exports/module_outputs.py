"""Which pairs of a plan a tool can read that knows modules by name, and only what they take and return."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from pursuhint.features.hint_points import HintPoint
    from pursuhint.hints.plan import HintPlan

__all__: list[str] = []


def readable_pairs(
    plan: HintPlan, tool: str, *, inputs: bool, axes: bool
) -> tuple[tuple[HintPoint, HintPoint], ...]:
    """The points of student and teacher, pair by pair.

    Args:
        plan: paired with a student.
        tool: its name, for messages.
        inputs: whether it can read the input of a module.
        axes: whether features may need to be rearranged.

    Raises:
        PursuhintError: the plan has no student or changes in time, or a hook of the tool would not see the
            features of a point.
    """
    if plan.schedule is not None:
        raise PursuhintError(f"{tool} has the same hint points all the time; this plan changes them")
    pairs = []
    for pair in plan.pairs:
        if pair.student is None:
            raise PursuhintError("the plan has no student's points; pair it first (HintPlan.with_student)")
        pairs.append((pair.student, pair.teacher))
        for point in pairs[-1]:
            if reason := _hidden(point, inputs=inputs, axes=axes):
                raise PursuhintError(f"{tool} cannot read hint point {point}: {reason}")
    return tuple(pairs)


def _hidden(point: HintPoint, *, inputs: bool, axes: bool) -> str:
    """Why a hook on a module does not see the features; empty if it does."""
    tap = point.tap
    if tap.kind.startswith("functional"):
        return "it is inside a module's forward, at an activation that is called as a function"
    if tap.kind == "input" and not inputs:
        return "it is the input of a module; take points after the activation (--activation post)"
    if tap.call:
        return f"it is call {tap.call + 1} of a module that runs several times"
    if tap.copy:
        return "the network overwrites it in place later; build the network with inplace=False"
    if (tap.axes or tap.grid is not None) and not axes:
        return f"its axes ({tap.axes or 'tokens as a map'}) are not samples, channels, height, width"
    return ""
