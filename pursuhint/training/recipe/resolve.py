"""Complete a recipe with all defaults, as it is stored in ``recipe.yaml``."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pursuhint.errors import PursuhintError
from pursuhint.hints.plan import HintPlan
from pursuhint.hints.rules import looks_at_teacher
from pursuhint.hints.schedules import Curriculum
from pursuhint.losses import get_loss
from pursuhint.losses._parts.classification import add_classification, default_weights
from pursuhint.models.names import absolute_network
from pursuhint.training.inputs import NO_INPUTS, Inputs
from pursuhint.training.recipe.dot_terms import check_dot
from pursuhint.training.recipe.hint_keys import check_keys
from pursuhint.training.recipe.received import check_origin
from pursuhint.training.recipe.recordable import check_rounding
from pursuhint.training.recipe.schema import (
    PASSED,
    DataConfig,
    HintsConfig,
    LossConfig,
    NetworkConfig,
    Recipe,
)
from pursuhint.training.recipe.second_view import check_second_view

if TYPE_CHECKING:
    from pursuhint.losses.base import Loss
    from pursuhint.losses.info import LossInfo

__all__ = ["needs_hints", "resolve_recipe"]

_FOLDER = "folder:"
_TEXT = "text:"


def resolve_recipe(recipe: Recipe, inputs: Inputs = NO_INPUTS, *, for_arms: bool = False) -> Recipe:
    """Fill in defaults that the losses define, and the inputs passed from Python.

    Writes out weights and hyperparameters of the losses and the points of a hint plan, so that the recipe no
    longer depends on the plan's file; paths become absolute, so that the working folder does not matter.
    Nothing else is built, loaded or downloaded.

    Args:
        recipe: the recipe as the user wrote it.
        inputs: networks, data and hint points that replace the recipe's.
        for_arms: the arms of a comparison choose the hint points, so that settings of every strategy count.

    Raises:
        PursuhintError: losses that exclude each other, a loss without its teacher, hints that no loss uses,
            an unknown hyperparameter, a hint key that the strategy ignores, or a hint plan that cannot be
            read; or the recipe is that of a file which names code and is not trusted.
    """
    from pursuhint.data import ImageData  # imports torch

    student, teacher, data, plan = inputs.student, inputs.teacher, inputs.data, inputs.plan
    changes: dict[str, object] = {}
    if student is not None:
        changes["student"] = NetworkConfig(network=f"python:{type(student).__name__}")
    else:
        check_has_student(recipe)
    if teacher is not None:
        changes["teacher"] = NetworkConfig(network=f"python:{type(teacher).__name__}")
    if data is not None and data.name != recipe.data.name:
        kept = ("augment", "flip", "second_view", "normalize", "image_size", "channels", "workers")
        config = DataConfig(name=f"python:{data.name}", **{key: getattr(recipe.data, key) for key in kept})
        changes["data"] = config if isinstance(data, ImageData) else _without_images(config)
    elif recipe.data.name.startswith("text:"):
        changes["data"] = _without_images(recipe.data)
    recipe = inputs.own.added_to(with_absolute_paths(_classifying(recipe.model_copy(update=changes))))
    check_origin(recipe)
    losses = resolve_losses(recipe.losses)
    _check_teacher(recipe, losses)
    check_rounding(recipe)
    check_dot(recipe.model_copy(update={"losses": losses}))
    check_second_view(recipe.model_copy(update={"losses": losses}))
    hints, losses = _resolve_hints(recipe, losses, plan, for_arms=for_arms)
    return recipe.model_copy(update={"losses": losses, "hints": hints})


def check_has_student(recipe: Recipe) -> None:
    """Check that a recipe names the network to train.

    Raises:
        PursuhintError: it does not.
    """
    if recipe.student.network == PASSED:
        raise PursuhintError(
            "the recipe names no student; add one, such as student: resnet8 (--student resnet8), or pass a "
            "network from Python"
        )


def _classifying(recipe: Recipe) -> Recipe:
    """The recipe whose student has a classifier, also if the network was saved without one."""
    options = recipe.student.options
    if not recipe.student.network.startswith("hf:") or "classifier" in options:
        return recipe
    student = recipe.student.model_copy(update={"options": {**options, "classifier": True}})
    return recipe.model_copy(update={"student": student})


def _without_images(config: DataConfig) -> DataConfig:
    """The section of data that are no images, which have no augmentation.

    Raises:
        PursuhintError: a key asks for something that only images have.
    """
    for key in ("normalize", "image_size", "channels", "exif", "classes", "train_samples"):
        if getattr(config, key) is not None:
            raise PursuhintError(f"the samples of {config.name} are no images; leave data.{key} out")
    for key, default in (("augment", ("standard",)), ("flip", "random"), ("second_view", ())):
        if getattr(config, key) not in ((), default):
            raise PursuhintError(f"the samples of {config.name} are no images; leave data.{key} out")
    return config.model_copy(update={"augment": ()})


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with absolute paths of data and checkpoints, whatever folder it is used in."""
    changes: dict[str, object] = {}
    for role, config in (("student", recipe.student), ("teacher", recipe.teacher)):
        if config is None:
            continue
        update = {"network": absolute_network(config.network)}
        if config.checkpoint is not None:
            update["checkpoint"] = str(Path(config.checkpoint).absolute())
        changes[role] = config.model_copy(update=update)
    if recipe.hints is not None and recipe.hints.file is not None:
        file = Path(recipe.hints.file).absolute()
        changes["hints"] = recipe.hints.model_copy(update={"file": str(file)})
    data: dict[str, object] = {}
    if recipe.data.root is not None:
        data["root"] = str(Path(recipe.data.root).expanduser().absolute())
    for kind in (_FOLDER, _TEXT):
        if recipe.data.name.startswith(kind):
            data["name"] = f"{kind}{Path(recipe.data.name.removeprefix(kind)).expanduser().absolute()}"
    if recipe.data.text is not None and recipe.data.text.tokenizer is not None:
        file = Path(recipe.data.text.tokenizer).expanduser()
        if file.exists():
            data["text"] = recipe.data.text.model_copy(update={"tokenizer": str(file.absolute())})
    if data:
        changes["data"] = recipe.data.model_copy(update=data)
    return recipe.model_copy(update=changes)


def _resolve_hints(
    recipe: Recipe, losses: dict[str, LossConfig], plan: HintPlan | None, *, for_arms: bool
) -> tuple[HintsConfig | None, dict[str, LossConfig]]:
    """The hints that the losses share, and the losses with their own hints where they differ.

    A loss looks at its own hints, else at those of the recipe; what these leave open is as in its paper.
    """
    looking = [name for name in losses if needs_hints([name])]
    given = plan is not None or recipe.hints is not None
    strangers = [name for name, loss in losses.items() if loss.hints is not None and name not in looking]
    if strangers or (given and not looking):
        raise PursuhintError(
            f"hint points are given, but no loss looks at them ({', '.join(strangers or losses)}); add one, "
            "e.g. at"
        )
    shared = recipe.hints or HintsConfig()
    if plan is None and not for_arms:
        check_keys(shared, "hints")
    for name, loss in losses.items():
        if loss.hints is not None:
            check_keys(loss.hints, f"losses.{name}.hints")
    if plan is not None:
        shared = written_out(plan, shared)
    elif shared.file is not None:
        shared = written_out(HintPlan.load(shared.file), shared)
    own = {name: losses[name].hints for name in looking}
    infos = {name: get_loss(name).info for name in looking}
    if looks_at_teacher(shared.strategy) and shared.activation is None:
        sharing = [name for name in looking if own[name] is None]
        shared = shared.model_copy(update={"activation": shared_activation(sharing)})
    complete = {name: _as_in_paper(own[name] or shared, infos[name]) for name in looking}
    if len({config.model_dump_json() for config in complete.values()}) <= 1:
        return next(iter(complete.values()), None), _with_hints(losses, {})
    if looks_at_teacher(shared.strategy):
        return shared, _with_hints(losses, {name: complete[name] for name in looking if own[name]})
    return None, _with_hints(losses, complete)


def shared_activation(losses: Iterable[str]) -> Literal["pre", "post"]:
    """The activation that losses look at when they share their hint points: ``pre`` if all papers do."""
    activations = {get_loss(name).info.activation for name in losses if get_loss(name).needs_hint_plan()}
    return "pre" if activations == {"pre"} else "post"


def _as_in_paper(hints: HintsConfig, info: LossInfo) -> HintsConfig:
    """Hints with everything that is left open filled in as the loss's paper has it."""
    if hints.file is not None:
        hints = written_out(HintPlan.load(hints.file), hints)
    update: dict[str, object] = {}
    if hints.strategy == "curriculum" and hints.curriculum is None:
        update["curriculum"] = Curriculum()
    if hints.activation is None:
        update["activation"] = info.activation
    if hints.strategy is None:
        update["strategy"] = "conventional" if info.points == "stages" else info.points
    return hints.model_copy(update=update)


def _with_hints(losses: Mapping[str, LossConfig], hints: Mapping[str, HintsConfig]) -> dict[str, LossConfig]:
    return {name: loss.model_copy(update={"hints": hints.get(name)}) for name, loss in losses.items()}


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
        hints = losses[name].hints if name in losses else None
        resolved[name] = LossConfig(weight=weight, hints=hints, options={**defaults, **chosen})
    return resolved


def needs_hints(losses: Iterable[str]) -> bool:
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


def check_activation(plan: HintPlan, hints: HintsConfig, file: str | None) -> Literal["pre", "post"]:
    """The activation of a plan's points.

    Args:
        plan: a hint plan.
        hints: those of the recipe that it is used in.
        file: where the plan is from, for the message; None if it was passed.

    Raises:
        PursuhintError: the recipe asks for the other activation.
    """
    activation = plan.pairs[0].teacher.activation
    if hints.activation not in (None, activation):
        source = "the hint plan" if file is None else f"the hint plan {file}"
        raise PursuhintError(
            f"{source} has {activation}-activation points, but the recipe says hints.activation: "
            f"{hints.activation}; choose points with --activation {hints.activation}, or set "
            f"hints.activation={activation}"
        )
    return activation


def written_out(plan: HintPlan, hints: HintsConfig) -> HintsConfig:
    """The recipe section that reproduces a plan.

    Raises:
        PursuhintError: the recipe asks for the other activation than the plan has, or its points change while
            the student trains.
    """
    if plan.schedule is not None:
        strategy = plan.origin.get("strategy")
        seed = f" --set hints.seed={plan.origin['seed']}" if "seed" in plan.origin else ""
        raise PursuhintError(
            f"the points of this hint plan change while the student trains ({strategy}), and belong to the "
            f"epochs of its own run; name the strategy (--hints {strategy}{seed})"
        )
    activation = check_activation(plan, hints, hints.file)
    students = tuple(pair.student.module for pair in plan.pairs if pair.student is not None)
    return HintsConfig(
        strategy="explicit",
        points=tuple(pair.teacher.module for pair in plan.pairs),
        student_points=students if len(students) == len(plan.pairs) else hints.student_points,
        pairing=hints.pairing,
        activation=activation,
    )
