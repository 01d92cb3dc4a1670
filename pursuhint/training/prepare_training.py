"""Build data, networks, hint points and distiller from a resolved recipe.

Everything that can be wrong with a run is found here, before anything is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pursuhint._util.network_input import NetworkInput
from pursuhint._util.provenance import BaseProvenance
from pursuhint._util.seeds import derived_seed
from pursuhint._util.wrappers import copy_network
from pursuhint.data import ImageData, InputData, TextData
from pursuhint.distillation.distiller import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint, find_hint_points
from pursuhint.hints.options import default_k
from pursuhint.hints.paper_points import PAPER_POINTS, points_by_rule
from pursuhint.hints.plan import HintPlan
from pursuhint.hints.rules import RULES, check_classes, choose_by_rule, looks_at_teacher
from pursuhint.hints.rules.source import RuleSource
from pursuhint.hints.schedules import SCHEDULES
from pursuhint.losses import get_loss
from pursuhint.models import create_model
from pursuhint.models.checkpoint import NOTHING_LEFT, LoadedWeights, load_weights
from pursuhint.models.teacher_accuracy import TeacherAccuracy
from pursuhint.training.inputs import NO_INPUTS, Inputs
from pursuhint.training.loaders import load_data
from pursuhint.training.normalization import converted_for, normalized_for
from pursuhint.training.pairing import pair_with_student, scheduled_plan, with_named
from pursuhint.training.recipe.resolve import needs_hints
from pursuhint.training.recipe.schema import HintsConfig, NetworkConfig, Recipe
from pursuhint.training.resources import Resources

if TYPE_CHECKING:
    from pursuhint.analysis.result import Analysis

__all__ = [
    "Parts",
    "build_distiller",
    "pair_with_student",
    "prepare",
]


@dataclass(frozen=True)
class Parts:
    """Data, networks and hint points of a run.

    Attributes:
        data: the data set.
        student: the network to train, with its initial weights.
        teacher: the trained network, or None.
        plan: hint points of both networks; None without hints, or while they are still to be chosen.
        plans: hint points of losses that do not look at those of ``plan``, by name.
        accuracy: of the teacher on the test split; None before it is measured, or without a teacher.
        loaded: what the student's checkpoint has filled, and what not.
        example: two samples, for looking at the networks: black images, or the first of other data.
    """

    data: ImageData | InputData
    student: nn.Module
    teacher: nn.Module | None
    plan: HintPlan | None
    example: NetworkInput
    plans: Mapping[str, HintPlan] = field(default_factory=dict)
    accuracy: TeacherAccuracy | None = None
    loaded: LoadedWeights = NOTHING_LEFT

    def with_provenance(self, made: BaseProvenance | None) -> Parts:
        """The same parts, with plans that lack a provenance getting that of this run."""

        def completed(plan: HintPlan) -> HintPlan:
            return replace(plan, provenance=made) if plan.provenance is None else plan

        plans = {name: completed(plan) for name, plan in self.plans.items()}
        return replace(self, plan=None if self.plan is None else completed(self.plan), plans=plans)


def prepare(recipe: Recipe, inputs: Inputs = NO_INPUTS, *, resources: Resources | None = None) -> Parts:
    """Load the data, build the networks and look up the hint points.

    Args:
        recipe: resolved.
        inputs: networks (copies of them), data and hint points to use instead of the recipe's.
        resources: supplies data and teacher, if they are shared with other runs.

    Raises:
        PursuhintError: one of them is wrong, or they do not fit together.
    """
    resources = Resources() if resources is None else resources
    student, teacher, data, plan = inputs.student, inputs.teacher, inputs.data, inputs.plan
    if data is None:
        data = resources.data(recipe, lambda: load_data(recipe.data))
    elif isinstance(data, ImageData):
        data = data if recipe.data.channels is None else data.with_channels(recipe.data.channels)
        data = data if recipe.data.image_size is None else data.resized(recipe.data.image_size)
    if recipe.acceleration.cache_teacher and (data.train.drawn or data.train.private):
        raise PursuhintError(
            "acceleration.cache_teacher needs images that look the same in every epoch, but the transform of "
            f"{data.name} changes them; leave one of them out"
        )
    example = data.example()
    if recipe.student.num_classes not in (None, data.num_classes):
        raise PursuhintError(
            f"student.num_classes is {recipe.student.num_classes}, "
            f"but {data.name} has {data.num_classes} classes"
        )
    torch.manual_seed(derived_seed(recipe.seed, "student"))
    loaded = NOTHING_LEFT
    if student is not None:
        own = copy_network(student).cpu()
    else:
        own, loaded = _build(recipe.student, data, "student")
    if inputs.data is None or recipe.data.normalize is not None:
        data = normalized_for(data, recipe.data, own, recipe.student.network)
    other = None
    if teacher is not None or recipe.teacher is not None:
        other = resources.teacher(recipe, lambda: _teacher(recipe, inputs, data))
    plans: dict[str, HintPlan] = {}
    if other is not None:
        name = "" if recipe.teacher is None else recipe.teacher.network
        networks = _Networks(own, other, example, name, recipe.epochs, data.num_classes)
    if recipe.hints is not None:
        looking = [name for name, loss in recipe.losses.items() if loss.hints is None]
        plan = _plan(recipe.hints, plan, networks, [name for name in looking if needs_hints([name])])
    for name, loss in recipe.losses.items():
        if loss.hints is not None:
            found = _plan(loss.hints, None, networks, [name])
            assert found is not None  # a loss's own hints do not depend on the teacher's features
            plans[name] = found
    if teacher is None and recipe.teacher is not None and recipe.teacher.checkpoint is None:
        raise PursuhintError(
            f"the teacher {recipe.teacher.network} has no weights; "
            "give teacher.checkpoint (--teacher-checkpoint FILE)"
        )
    parts = Parts(data, own, other, plan, example, plans, loaded=loaded)
    if recipe.hints is not None and plan is None:
        _try_other_losses(recipe, parts)
    return parts


def check_plans(recipe: Recipe, plan: HintPlan | None, teacher: nn.Module | None) -> None:
    """Warn if a given hint plan was chosen from another network than the teacher.

    Args:
        recipe: as it was given, not resolved, so that it still names the files of plans.
        plan: the one that replaces the recipe's.
        teacher: of the run.

    Raises:
        PursuhintError: a file is missing or is no hint plan.
    """
    if teacher is None:
        return
    shared = None if plan is not None else recipe.hints
    files = [hints.file for hints in (shared, *(loss.hints for loss in recipe.losses.values())) if hints]
    given = [plan, *(HintPlan.load(file) for file in files if file is not None)]
    name = type(teacher).__name__ if recipe.teacher is None else recipe.teacher.network
    for each in given:
        if each is not None:
            each.check_network(teacher, name)


def build_distiller(recipe: Recipe, parts: Parts, plan: HintPlan | None) -> Distiller:
    """The distiller of a run; parameters of losses are initialised from the run's seed."""
    torch.manual_seed(derived_seed(recipe.seed, "losses"))
    data = parts.data
    if {"mixup", "cutmix"} & set(recipe.data.augment):
        for name in recipe.losses:
            get_loss(name).check_mixed_images()
    return Distiller.build(
        parts.student,
        parts.teacher,
        losses=recipe.losses,
        plan=plan_of_each_loss(recipe.losses, plan, parts.plans),
        num_classes=data.num_classes,
        num_samples=data.num_samples,
        example=parts.example,
        labels=_training_labels(data),
        batch_size=recipe.batch_size,
        acceleration=recipe.acceleration,
    )


def plan_of_each_loss(
    losses: Iterable[str], shared: HintPlan | None, own: Mapping[str, HintPlan]
) -> dict[str, HintPlan]:
    """The hint plan of every loss that looks at one.

    Args:
        losses: names.
        shared: the plan of the losses without one of their own.
        own: plans by the name of a loss.
    """
    plans = {name: own.get(name, shared) for name in losses if get_loss(name).needs_hint_plan()}
    return {name: plan for name, plan in plans.items() if plan is not None}


def _training_labels(data: ImageData | InputData) -> Tensor:
    """Class of every training sample by its index; -1 for those of the validation split."""
    labels = torch.full((data.num_samples,), -1)
    labels[data.train.indices] = data.train.labels
    return labels


def _build(config: NetworkConfig, data: ImageData | InputData, role: str) -> tuple[nn.Module, LoadedWeights]:
    """A network with the weights of its checkpoint; a warning names what they have not filled."""
    if config.network.startswith("python:"):
        raise PursuhintError(f"the {role} {config.network} was passed from Python; pass it again")
    if isinstance(data, InputData) and not isinstance(data, TextData):
        raise PursuhintError(
            f"the {role} {config.network} takes images, and the samples of {data.name} are none; pass the "
            f"network from Python ({role}=...)"
        )
    sizes = (
        {"vocab_size": data.vocab_size} if isinstance(data, TextData) else {"in_channels": data.in_channels}
    )
    options = {**sizes, **config.options}
    network = create_model(config.network, num_classes=config.num_classes or data.num_classes, **options)
    if config.checkpoint is None:
        return network, NOTHING_LEFT
    loaded = load_weights(
        network,
        config.checkpoint,
        checkpoint_key=config.checkpoint_key,
        new_head=config.new_head,
        partial=config.partial,
    )
    loaded.warn(f"the {role}'s checkpoint {config.checkpoint}")
    return network, loaded


def _teacher(recipe: Recipe, inputs: Inputs, data: ImageData | InputData) -> nn.Module:
    if inputs.teacher is not None:
        network, name = copy_network(inputs.teacher).cpu(), ""
    else:
        assert recipe.teacher is not None
        network, name = _build(recipe.teacher, data, "teacher")[0], recipe.teacher.network
    return converted_for(network, name, data, recipe.data)


@dataclass(frozen=True)
class _Networks:
    """Both networks of a run, images of the size that they see, the teacher's name, epochs, and classes."""

    student: nn.Module
    teacher: nn.Module
    example: NetworkInput
    teacher_name: str
    epochs: int
    classes: int


def _plan(
    hints: HintsConfig, plan: HintPlan | None, networks: _Networks, losses: Sequence[str]
) -> HintPlan | None:
    """The hint points in both networks; None if a pass over the data is to choose them.

    Args:
        hints: resolved.
        plan: the points, if they are known.
        networks: teacher and student.
        losses: those that look at these points.
    """
    student, teacher, example = networks.student, networks.teacher, networks.example
    if plan is not None:
        plan = plan.bind(teacher, example, student_network=student)
        return plan if plan.student_points else pair_with_student(plan, hints, student, example)
    assert hints.activation is not None  # resolved
    points = find_hint_points(teacher, example, activation=hints.activation)
    k = default_k(points) if hints.k is None else hints.k
    draws = hints.strategy == "random" or hints.strategy in SCHEDULES
    if len(points) == 1 and (draws or looks_at_teacher(hints.strategy)):
        raise PursuhintError(
            f"the teacher has one candidate point, {points[0].module}, so hints: {hints.strategy} has "
            "nothing to choose; take it (hints: conventional)"
        )
    check_classes(hints.strategy, networks.classes)
    if looks_at_teacher(hints.strategy):
        # Check with a random plan that k fits both networks; the analysis would fail only at its end.
        pair_with_student(HintPlan.random(points, k, hints.seed), hints, student, example)
        return None
    if hints.strategy in SCHEDULES:
        return scheduled_plan(hints, points, student, example=example, epochs=networks.epochs)
    if hints.strategy == "conventional":
        plan = HintPlan.conventional(teacher, points)
    elif hints.strategy == "centers":
        plan = HintPlan.stage_centers(points)
    elif hints.strategy == "random":
        plan = HintPlan.random(points, k, hints.seed)
    elif hints.strategy == "all":
        others = find_hint_points(student, example, activation=hints.activation)
        return HintPlan.all_by_depth(points, others)
    elif hints.strategy in PAPER_POINTS:
        return _plan_by_rule(hints, points, student, teacher, example)
    elif hints.strategy in RULES:
        plan = choose_by_rule(str(hints.strategy), rule_source(hints, points, networks.teacher_name, losses))
    else:
        plan = HintPlan.explicit(with_named(points, hints.points, teacher, example), hints.points)
    return pair_with_student(plan, hints, student, example)


def rule_source(
    hints: HintsConfig,
    points: tuple[HintPoint, ...],
    teacher_name: str,
    losses: Sequence[str],
    *,
    analysis: Analysis | None = None,
) -> RuleSource:
    """What a rule of `pursuhint.hints.RULES` chooses from, but for the network and images.

    Args:
        hints: of the recipe.
        points: candidates of the teacher.
        teacher_name: as in the recipe.
        losses: those that look at the points.
        analysis: of the teacher, with the metric of the hints, for the rules that need one.
    """
    return RuleSource(
        points,
        k=default_k(points) if hints.k is None else hints.k,
        seed=hints.seed,
        position=hints.position,
        teacher_name=teacher_name,
        losses=tuple(losses),
        similarity=None if analysis is None else analysis.clustered_similarity(hints.metric),
        curves={} if analysis is None else analysis.curves,
        no_curves="" if analysis is None else analysis.no_class_curves,
    )


def _plan_by_rule(
    hints: HintsConfig,
    points: Sequence[HintPoint],
    student: nn.Module,
    teacher: nn.Module,
    example: NetworkInput,
) -> HintPlan:
    """One of the places that papers name, in both networks unless the recipe pairs them otherwise."""
    assert hints.strategy is not None
    assert hints.activation is not None
    plan = HintPlan.of(points_by_rule(hints.strategy, teacher, points, example), {"strategy": hints.strategy})
    candidates = find_hint_points(student, example, activation=hints.activation)
    matching = points_by_rule(hints.strategy, student, candidates, example)
    if hints.student_points or hints.pairing != "conventional" or len(matching) != len(plan):
        return pair_with_student(plan, hints, student, example)
    return plan.paired(matching, "conventional")


def _try_other_losses(recipe: Recipe, parts: Parts) -> None:
    """Build the losses that need no hint plan, so that their errors come before a long analysis."""
    others = {name: config for name, config in recipe.losses.items() if not get_loss(name).needs_hint_plan()}
    if any(config.weight for config in others.values()):
        data, student = parts.data, copy_network(parts.student)
        Distiller.build(
            student,
            parts.teacher,
            losses=others,
            plan=None,
            num_classes=data.num_classes,
            num_samples=data.num_samples,
            example=parts.example,
            labels=_training_labels(data),
            batch_size=recipe.batch_size,
        )
