"""A plan whose pairs teach one after the other; when is in `pursuhint.hints.Curriculum`."""

from __future__ import annotations

from collections.abc import Sequence

from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint, even_points
from pursuhint.hints.plan import HintPair, HintPlan
from pursuhint.hints.schedules import Curriculum

__all__: list[str] = []


def targets_of(points: Sequence[HintPoint], k: int | None, epochs: int) -> tuple[HintPoint, ...]:
    """The layers that teach one after the other.

    Args:
        points: all candidates of the teacher, in depth order.
        k: how many, at the ends of equal parts of the depth; None for all, or as many as there are epochs.
        epochs: length of the main stage.

    Raises:
        PursuhintError: k is out of range, or there are not enough epochs.
    """
    count = min(len(points), epochs) if k is None else k
    if not 1 <= count <= len(points):
        raise PursuhintError(
            f"curriculum cannot take {count} hint points from {len(points)} layers; ask for 1 to "
            f"{len(points)} (--k)"
        )
    if count > epochs:
        raise PursuhintError(
            f"a curriculum of {count} hint points needs as many epochs, and there are {epochs}; ask for "
            "fewer (--k) or train longer (--epochs)"
        )
    return even_points(points, count)


def curriculum(targets: Sequence[HintPoint], students: Sequence[HintPoint], schedule: Curriculum) -> HintPlan:
    """The plan.

    Args:
        targets: of the teacher, from the shallowest to the deepest.
        students: the student's point that learns from each.
        schedule: when the next one teaches.
    """
    pairs = tuple(HintPair(target, own) for target, own in zip(targets, students, strict=True))
    return HintPlan(pairs, {"strategy": "curriculum", "k": len(pairs)}, schedule=schedule)
