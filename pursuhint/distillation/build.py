"""Build the terms of a distiller from names of losses, in three steps: hint points, shapes, terms.

1. Points: every loss sees the pairs of its plan, the last maps of both networks, or points that it chooses.
2. Shapes: one image runs through each network; widths and sizes at all points make the `LossContext`.
3. Terms: every loss is built with the shapes at its own points.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pursuhint._util.network_input import NetworkInput, few_samples, map_tensors, tensors_of
from pursuhint.distillation.build_scheduled import build_scheduled
from pursuhint.distillation.terms import Term, TermOptions, check_hints_only, check_teacher
from pursuhint.distillation.token_maps import of_one_kind
from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import evaluating, failing_module_named, trace_calls
from pursuhint.features.embedding import find_embedding
from pursuhint.features.extractor import FeatureExtractor, Features
from pursuhint.features.head import find_last_map
from pursuhint.features.hint_points import HintPoint, find_hint_points
from pursuhint.losses import get_loss
from pursuhint.losses._parts.classification import add_classification
from pursuhint.losses.base import Loss
from pursuhint.losses.context import FeatureShape, LossContext, Network

if TYPE_CHECKING:
    from pursuhint.hints.plan import HintPlan

Pairs = list[tuple[HintPoint, HintPoint]]  # the student's point first


@dataclass(frozen=True)
class Task:
    """The classification task of a student.

    Attributes:
        num_classes: number of classes; None for networks whose task is not known here.
        num_samples: size of the training set; None likewise.
        example: images of the size that both networks will see, (N, C, H, W), or what else they take.
        labels: class of every training sample by its index, (num_samples,); -1 for samples that are held out
            of training. None if not known.
        batch_size: samples in a batch, over all ranks; None if not known.
    """

    num_classes: int | None
    num_samples: int | None
    example: NetworkInput
    labels: Tensor | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class PointsSeen:
    """The hint points that one loss sees.

    Attributes:
        student: hint points of the student.
        teacher: hint points of the teacher.
        paired: whether they are pairs, in order; otherwise the loss has chosen them itself.
    """

    student: tuple[HintPoint, ...]
    teacher: tuple[HintPoint, ...]
    paired: bool


@dataclass(frozen=True)
class BuiltTerms:
    """Terms by name, and the hint points that their indices refer to."""

    terms: dict[str, Term]
    student_points: tuple[HintPoint, ...]
    teacher_points: tuple[HintPoint, ...]


@dataclass(frozen=True)
class _Asked:
    """A loss as it was asked for: its class, its weight and its hyperparameters, checked."""

    kind: type[Loss]
    weight: float | None
    options: Mapping[str, Any]


def build_terms(
    student: nn.Module,
    teacher: nn.Module | None,
    *,
    losses: Mapping[str, TermOptions | float | None],
    plan: HintPlan | Mapping[str, HintPlan] | None,
    task: Task,
    reduce_teacher: bool = False,
) -> BuiltTerms:
    """Build every loss for two networks; see `pursuhint.distillation.Distiller.build`."""
    asked = _read_losses(losses, teacher, classifies=task.num_classes is not None)
    finder = _PointFinder(student, teacher, plan, task.example)
    points = {name: finder.find(name, entry) for name, entry in asked.items()}
    if reduce_teacher:
        points = _reduced(points, [name for name, entry in asked.items() if finder.reads_energy(name, entry)])
    student_points = _unique(point for seen in points.values() for point in seen.student)
    teacher_points = _unique(point for seen in points.values() for point in seen.teacher)
    kinds = [entry.kind for entry in asked.values()]
    context = measure_networks(
        student,
        teacher if any(kind.info.needs_teacher for kind in kinds) else None,
        points=(student_points, teacher_points),
        task=task,
        embeddings=any(map(_looks_at_embeddings, kinds)),
    )
    for kind in kinds:  # a loss may change the width that the losses beside it see
        context = replace(context, student_embedding=kind.prepared_embedding(context))
    terms = {
        name: Term(
            _moved_to(student, _build(entry, _context_at(points[name], context), finder.plan_of(name))),
            entry.weight,
            tuple(student_points.index(point) for point in points[name].student),
            tuple(teacher_points.index(point) for point in points[name].teacher),
        )
        for name, entry in asked.items()
    }
    return BuiltTerms(terms, student_points, teacher_points)


def _build(asked: _Asked, context: LossContext, plan: HintPlan | None) -> Loss:
    """The loss of a term; one whose plan changes in training has a part for each of its states."""
    if plan is not None and plan.schedule is not None and asked.kind.needs_hint_plan():
        return build_scheduled(asked.kind, context, plan.schedule, asked.options)
    return asked.kind.build(context, **asked.options)


# ---------------------------------------------------------------------------------------------------------
# Reading the losses asked for


def _read_losses(
    losses: Mapping[str, TermOptions | float | None], teacher: nn.Module | None, *, classifies: bool
) -> dict[str, _Asked]:
    """Classes, weights and options by name, with cross-entropy added where it belongs.

    Raises:
        PursuhintError: a loss looks at more than hint points, and the networks' classes are not known.
    """
    kinds = {name: get_loss(name) for name in losses}
    asked = {name: _weight_and_options(entry) for name, entry in losses.items()}
    weights = {name: weight for name, (weight, _) in asked.items()}
    if classifies:
        weights = add_classification(kinds, weights)
    else:
        for name, kind in kinds.items():
            check_hints_only(name, kind)
    kinds = {name: kinds.get(name) or get_loss(name) for name in weights}
    check_teacher(kinds, teacher)
    return {
        name: _Asked(kind, weights[name], kind.checked(asked[name][1] if name in asked else {}))
        for name, kind in kinds.items()
    }


def _weight_and_options(entry: TermOptions | float | None) -> tuple[float | None, Mapping[str, Any]]:
    if entry is None or isinstance(entry, int | float):
        return entry, {}
    return entry.weight, entry.options


def _looks_at_embeddings(kind: type[Loss]) -> bool:
    return kind.info.needs_teacher_classifier or bool(
        {"student_embedding", "teacher_embedding"} & set(kind.info.inputs)
    )


# ---------------------------------------------------------------------------------------------------------
# Points


@dataclass(frozen=True)
class _PointFinder:
    """Finds the hint points that losses see in two networks."""

    student: nn.Module
    teacher: nn.Module | None
    plan: HintPlan | Mapping[str, HintPlan] | None
    example: NetworkInput

    def find(self, name: str, asked: _Asked) -> PointsSeen:
        """The hint points of a loss.

        Raises:
            PursuhintError: the plan has a point of the teacher without a counterpart in the student.
        """
        kind = asked.kind
        pairs = self._planned(name) if kind.needs_hint_plan() else self._last_maps(kind)
        chosen = kind.choose_points(pairs, self._candidates(pairs), **asked.options)
        student = tuple(own for own, _ in pairs) if chosen is None else tuple(chosen[0])
        teacher = tuple(other for _, other in pairs) if chosen is None else tuple(chosen[1])
        return PointsSeen(*of_one_kind(student, teacher, self.example), paired=chosen is None)

    def reads_energy(self, name: str, asked: _Asked) -> bool:
        """Whether of the teacher's maps a loss reads the mean square of the channels alone.

        With hints that change in training it is not: a curriculum compares the channels of both networks.
        """
        plan = self.plan_of(name)
        return asked.kind.reads_energy(asked.options) and (plan is None or plan.schedule is None)

    def plan_of(self, name: str) -> HintPlan | None:
        """The hint plan of a loss; None without hints."""
        return self.plan.get(name) if isinstance(self.plan, Mapping) else self.plan

    def _planned(self, name: str) -> Pairs:
        plan = self.plan_of(name)
        pairs = []
        for pair in plan.pairs if plan is not None else ():
            if pair.student is None:
                raise PursuhintError(
                    f"hint point {pair.teacher} of the teacher has no counterpart; "
                    "pair the plan with the student first (HintPlan.with_student)"
                )
            pairs.append((pair.student, pair.teacher))
        return pairs

    def _last_maps(self, kind: type[Loss]) -> Pairs:
        """The one pair of a loss on the last maps; none for losses that see no maps."""
        if not kind.info.at_last_map:
            return []
        assert self.teacher is not None
        return [(find_last_map(self.student, self.example), find_last_map(self.teacher, self.example))]

    def _candidates(self, pairs: Pairs) -> Callable[[Network], Sequence[HintPoint]]:
        """Finds all sub-blocks of either network, before or after the activation as the plan's points are."""

        def find(name: Network) -> Sequence[HintPoint]:
            network = self.student if name == "student" else self.teacher
            assert network is not None  # losses without a teacher have no hint points
            activation = pairs[0][1].activation if pairs else "post"
            return find_hint_points(network, _moved(self.example, network), activation=activation)

        return find


def _reduced(points: Mapping[str, PointsSeen], names: Sequence[str]) -> dict[str, PointsSeen]:
    """The points of all losses, with one channel where no loss reads more of the teacher's map.

    Args:
        points: of every loss, by name.
        names: of the losses that read the mean square of the channels alone. They read all of a map that has
            to be averaged down first.
    """

    def enough(name: str, index: int) -> bool:
        seen = points[name]
        return name in names and seen.paired and _no_larger(seen.teacher[index], seen.student[index])

    every = [(name, index) for name, seen in points.items() for index in range(len(seen.teacher))]
    whole = {points[name].teacher[index] for name, index in every if not enough(name, index)}
    return {
        name: replace(
            seen, teacher=tuple(point if point in whole else point.reduced() for point in seen.teacher)
        )
        for name, seen in points.items()
    }


def _no_larger(teacher: HintPoint, student: HintPoint) -> bool:
    """Whether the teacher's map need not be averaged down to the size of the student's."""
    if teacher.spatial == student.spatial:
        return True
    two = len(teacher.spatial) == len(student.spatial) == 2
    return two and all(side <= other for side, other in zip(teacher.spatial, student.spatial))


def _unique(points: Iterable[HintPoint]) -> tuple[HintPoint, ...]:
    """Points without repetition, in the order in which they come first."""
    return tuple(dict.fromkeys(points))


# ---------------------------------------------------------------------------------------------------------
# Shapes


def measure_networks(
    student: nn.Module,
    teacher: nn.Module | None,
    *,
    points: tuple[Sequence[HintPoint], Sequence[HintPoint]],
    task: Task,
    embeddings: bool = True,
) -> LossContext:
    """Measure on two networks what `pursuhint.losses.Loss.build` needs to know.

    Args:
        student: the network to train.
        teacher: the network to learn from, or None.
        points: hint points of the student and of the teacher.
        task: classes, samples and an example. Both networks are run on one image of it in evaluation mode;
            statistics and random numbers stay unchanged.
        embeddings: whether to look for embeddings and the teacher's classifier too.

    Returns:
        Context with the shapes at all points as ``chosen``.

    Raises:
        PursuhintError: the student's logits do not fit the number of classes, a point does not exist, or a
            network cannot run on the example.
    """
    classifies = task.num_classes is not None
    own = _features(student, points[0], task.example, embeddings, logits=classifies)
    if own.logits is not None and own.logits.shape[1] != task.num_classes:
        raise PursuhintError(
            f"the student gives {own.logits.shape[1]} scores a sample, "
            f"but the task has {task.num_classes} classes"
        )
    other = (
        Features()
        if teacher is None
        else _features(teacher, points[1], task.example, embeddings, logits=classifies)
    )
    classifier = None
    if teacher is not None and embeddings:
        trace = trace_calls(teacher, few_samples(_moved(task.example, teacher)))
        call = find_embedding(trace).classifier
        classifier = None if call is None else call.module
    return LossContext(
        pairs=(),
        num_classes=task.num_classes or 0,
        num_samples=task.num_samples or 0,
        student_embedding=_width(own.embedding),
        teacher_embedding=_width(other.embedding),
        teacher_classifier=classifier,
        teacher_classes=_width(other.logits) or None,
        student=student,
        teacher=teacher,
        example=task.example,
        labels=task.labels,
        chosen=(_shapes(points[0], own), _shapes(points[1], other)),
        batch_size=task.batch_size,
    )


@torch.no_grad()
def _features(
    network: nn.Module, points: Sequence[HintPoint], example: NetworkInput, embedding: bool, *, logits: bool
) -> Features:
    """The features of two images; buffers, modes and random numbers of the network stay unchanged."""
    images = _moved(few_samples(example), network)
    device = tensors_of(images)[0].device
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices), evaluating(network), failing_module_named(network, images):
        return FeatureExtractor(network, points, logits=logits, embedding=embedding)(images)


def _shapes(points: Sequence[HintPoint], features: Features) -> tuple[FeatureShape, ...]:
    return tuple(_shape(point, values) for point, values in zip(points, features.maps))


def _shape(point: HintPoint, values: Tensor) -> FeatureShape:
    shape = tuple(values.shape)  # (N, C), (N, T, C) or (N, C, H, W)
    channels, spatial = (shape[1], shape[2:]) if len(shape) != 3 else (shape[2], shape[1:2])
    return FeatureShape(channels, spatial, point.activation, point.module, point)


def _width(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.shape[1]


# ---------------------------------------------------------------------------------------------------------
# Terms


def _context_at(seen: PointsSeen, context: LossContext) -> LossContext:
    """The context of one loss: shapes at its own points only."""
    assert context.chosen is not None
    shapes = {shape.point: shape for shape in context.chosen[0]}
    other_shapes = {shape.point: shape for shape in context.chosen[1]}
    student = tuple(shapes[point] for point in seen.student)
    teacher = tuple(other_shapes[point] for point in seen.teacher)
    if seen.paired:
        return replace(context, pairs=tuple(zip(student, teacher)), chosen=None)
    return replace(context, pairs=(), chosen=(student, teacher))


# ---------------------------------------------------------------------------------------------------------
# Device and precision


def _reference(network: nn.Module) -> Tensor | None:
    """A weight that has the network's device and precision; None if it has no weights."""
    return next((parameter for parameter in network.parameters() if parameter.is_floating_point()), None)


def _moved(images: NetworkInput, network: nn.Module) -> NetworkInput:
    """Images on the device and in the precision of a network's weights; integers stay integers."""
    like = _reference(network)
    if like is None:
        return images
    return map_tensors(
        images, lambda values: values.to(like) if values.is_floating_point() else values.to(like.device)
    )


def _moved_to(network: nn.Module, loss: Loss) -> Loss:
    """A loss on the device and in the precision of a network's weights."""
    like = _reference(network)
    return loss if like is None else loss.to(like.device, like.dtype)
