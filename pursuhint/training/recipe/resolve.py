"""Complete a recipe with all defaults, as it is stored in ``recipe.yaml``."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pursuhint.errors import PursuhintError
from pursuhint.hints.plan import HintPlan
from pursuhint.losses import get_loss
from pursuhint.losses._parts.classification import add_classification, default_weights
from pursuhint.training.inputs import NO_INPUTS, Inputs
from pursuhint.training.recipe.schema import DataConfig, HintsConfig, LossConfig, NetworkConfig, Recipe

if TYPE_CHECKING:
    from pursuhint.losses.base import Loss

__all__ = ["needs_hints", "resolve_recipe"]


def resolve_recipe(recipe: Recipe, inputs: Inputs = NO_INPUTS) -> Recipe:
    """Fill in defaults that the losses define, and the inputs passed from Python.

    Writes out weights and hyperparameters of the losses and the points of a hint plan, so that the recipe no
    longer depends on the plan's file. Nothing else is built, loaded or downloaded.

    Args:
        recipe: the recipe as the user wrote it.
        inputs: networks, data and hint points that replace the recipe's.

    Raises:
        PursuhintError: losses that exclude each other, a loss without its teacher, hints that no loss uses,
            an unknown hyperparameter, or a hint plan that cannot be read.
    """
    student, teacher, data, plan = inputs.student, inputs.teacher, inputs.data, inputs.plan
    changes: dict[str, object] = {}
    if student is not None:
        changes["student"] = NetworkConfig(network=f"python:{type(student).__name__}")
    if teacher is not None:
        changes["teacher"] = NetworkConfig(network=f"python:{type(teacher).__name__}")
    if data is not None and data.name != recipe.data.name:
        changes["data"] = DataConfig(name=f"python:{data.name}", augment=recipe.data.augment)
    recipe = recipe.model_copy(update=changes)
    losses = resolve_losses(recipe.losses)
    _check_teacher(recipe, losses)
    hints = recipe.hints
    if not needs_hints(losses):
        if plan is not None or hints is not None:
            raise PursuhintError(
                f"hint points are given, but no loss looks at them ({', '.join(losses)}); add one, e.g. at"
            )
    elif plan is not None:
        hints = _written_out(plan, hints or HintsConfig())
    elif hints is None:
        hints = HintsConfig()
    elif hints.file is not None:
        hints = _written_out(HintPlan.load(hints.file), hints)
    return recipe.model_copy(update={"losses": losses, "hints": hints})


def resolve_losses(losses: Mapping[str, LossConfig]) -> dict[str, LossConfig]:
    """Fill in all weights and hyperparameters, and add cross-entropy.

    Cross-entropy is added unless it is named or a loss contains it. A weight that is not given is the
    paper's: of KD 0.9 with cross-entropy 0.1 by itself, and 1 with cross-entropy 1 beside another loss.

    Raises:
        PursuhintError: an unknown loss or hyperparameter.
    """
    kinds: dict[str, type[Loss]] = {name: get_loss(name) for name in losses}
    asked = add_classification(kinds, {name: config.weight for name, config in losses.items()})
    kinds = {name: kinds.get(name) or get_loss(name) for name in asked}
    weights = default_weights(kinds, asked)
    resolved: dict[str, LossConfig] = {}
    for name, weight in weights.items():
        kind = kinds[name]
        defaults = {
            key: value
            for key, value in kind.hyperparameters().items()
            if value is not inspect.Parameter.empty
        }
        chosen = kind.checked(losses[name].options) if name in losses else {}
        resolved[name] = LossConfig(weight=weight, options={**defaults, **chosen})
    return resolved


def needs_hints(losses: Mapping[str, object]) -> bool:
    """Whether any of the named losses uses the hint points of a plan."""
    return any(get_loss(name).needs_hint_plan() for name in losses)


def _check_teacher(recipe: Recipe, losses: Mapping[str, object]) -> None:
    needing = [name for name in losses if get_loss(name).info.needs_teacher]
    if needing and recipe.teacher is None:
        raise PursuhintError(
            f"loss {needing[0]!r} needs a teacher; give one with teacher.network (--teacher)"
        )
    if recipe.teacher is not None and not needing:
        raise PursuhintError(
            f"a teacher is given, but no loss looks at it ({', '.join(losses)}); add one (--loss kd), "
            "or leave the teacher out"
        )


def _written_out(plan: HintPlan, hints: HintsConfig) -> HintsConfig:
    """The recipe section that reproduces a plan."""
    students = tuple(pair.student.module for pair in plan.pairs if pair.student is not None)
    return HintsConfig(
        strategy="explicit",
        points=tuple(pair.teacher.module for pair in plan.pairs),
        student_points=students if len(students) == len(plan.pairs) else hints.student_points,
        pairing=hints.pairing,
        activation=plan.pairs[0].teacher.activation,
    )
