"""Which point of the student learns from which of the teacher, and when."""

from __future__ import annotations

import glob

from torch import nn

from pursuhint._util.network_input import NetworkInput
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint, find_hint_points, resolve_point
from pursuhint.hints.options import default_k
from pursuhint.hints.plan import HintPlan
from pursuhint.hints.rules import RULES
from pursuhint.hints.schedules import Curriculum
from pursuhint.hints.schedules.curriculum import curriculum, targets_of
from pursuhint.hints.schedules.random_each_epoch import check_draw, random_each_epoch
from pursuhint.training.recipe.schema import HintsConfig

__all__: list[str] = []


def pair_with_student(
    plan: HintPlan, hints: HintsConfig, student: nn.Module, example: NetworkInput
) -> HintPlan:
    """Complete a plan with the student's points, as the recipe names or pairs them."""
    activation = plan.teacher_points[0].activation
    points = find_hint_points(student, example, activation=activation)
    points = with_named(points, hints.student_points, student, example)
    rule = RULES.get(str(plan.origin.get("strategy")))
    pairing = rule.pairing if rule is not None and rule.pairing else hints.pairing
    return plan.with_student(points, student, pairing=hints.student_points or pairing)


def scheduled_plan(
    hints: HintsConfig,
    points: tuple[HintPoint, ...],
    student: nn.Module,
    *,
    example: NetworkInput,
    epochs: int,
) -> HintPlan:
    """The pairs of a strategy of `pursuhint.hints.SCHEDULES`, and which of them teach when.

    Args:
        hints: of the recipe.
        points: candidates of the teacher.
        student: the network.
        example: images of the size that both networks see.
        epochs: length of the main stage.

    Raises:
        PursuhintError: k does not fit one of the networks.
    """
    if hints.strategy == "curriculum":
        targets = targets_of(points, hints.k, epochs)
        return curriculum(
            targets, _learners(hints, student, example, len(targets)), hints.curriculum or Curriculum()
        )
    k = default_k(points) if hints.k is None else hints.k
    check_draw(len(points), k)
    # Which layers of the teacher these are does not matter: the student's points follow from their order.
    by_depth = pair_with_student(HintPlan.of(points[:k], {}), hints, student, example)
    plan = random_each_epoch(points, by_depth.student_points, seed=hints.seed, epochs=epochs)
    return plan.paired(plan.student_points, by_depth.origin["pairing"])


def _learners(hints: HintsConfig, student: nn.Module, example: NetworkInput, targets: int) -> list[HintPoint]:
    """The student's points of a curriculum: those that the recipe names, or its last one for all targets.

    Raises:
        PursuhintError: a point does not exist, or their number is neither 1 nor that of the targets.
    """
    assert hints.activation is not None  # resolved
    points = find_hint_points(student, example, activation=hints.activation)
    names = hints.student_points
    if len(names) not in (0, 1, targets):
        raise PursuhintError(f"{len(names)} student points were named for {targets} hint points")
    points = with_named(points, names, student, example)
    chosen = [resolve_point(points, name) for name in names] or [points[-1]]
    return chosen if len(chosen) == targets else chosen * targets


def with_named(
    points: tuple[HintPoint, ...], names: tuple[str, ...], network: nn.Module, example: NetworkInput
) -> tuple[HintPoint, ...]:
    """The candidate points, and modules that are no candidates by default but are named in the recipe."""
    modules, known = dict(network.named_modules()), {point.module for point in points}
    for name in names:
        if name in modules and name not in known:
            pattern = glob.escape(name)
            points += find_hint_points(network, example, activation=points[0].activation, include=[pattern])
    return points
