"""The student, the frozen teacher and the weighted losses between them, as one module."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from pursuhint._util.attention import twice_differentiable
from pursuhint._util.network_checks import check_network
from pursuhint._util.network_input import NetworkInput, map_tensors
from pursuhint._util.wrappers import copy_network, runnable, unwrapped
from pursuhint.acceleration.channels_last import channels_last_gradient
from pursuhint.acceleration.compiled_extractor import CompiledExtractor
from pursuhint.acceleration.options import Acceleration
from pursuhint.distillation.build import Task, build_terms
from pursuhint.distillation.scheduled_hints import ScheduledHints
from pursuhint.distillation.teacher import TeacherOutputs, TeacherRunner
from pursuhint.distillation.terms import (
    Losses,
    Term,
    TermOptions,
    check_hints_only,
    check_teacher,
    check_terms,
    selected_points,
    term_weights,
)
from pursuhint.distillation.two_views import joined_views, separated_views
from pursuhint.distillation.watched import WatchedStudent
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import FeatureExtractor, Features
from pursuhint.features.hint_points import HintPoint
from pursuhint.features.tap import Tap
from pursuhint.losses._parts.classification import second_view_has_use
from pursuhint.losses.base import Loss, WarmUp

if TYPE_CHECKING:
    from pursuhint.data.batch import Batch
    from pursuhint.hints.plan import HintPlan

__all__ = ["Distiller"]


class Distiller(nn.Module):
    """Compute the weighted sum of losses between a student and its teacher.

    The total is the sum of PURSUhInT, eq. 8: ``sum of weight * loss`` over the terms. This is the one module
    to train, wrap for several processes and save: it contains the student and the modules that the losses
    learn. The teacher moves between devices with it, but is no submodule: it is frozen, always in evaluation
    mode, and in neither ``parameters()`` nor ``state_dict()``.

    Args:
        student: the network to train. ``DataParallel`` and what ``torch.compile`` returns are looked
            through; wrap the distiller instead. A loss may extend or wrap it (`Loss.prepare`): afterwards use
            ``distiller.student``, and `export` for the network to keep.
        terms: losses by name.
        teacher: the network to learn from; frozen in place. None if no loss needs it.
        student_points: hint points of the student, paired with the teacher's by their order.
        teacher_points: hint points of the teacher.
        acceleration: how the arithmetic is carried out.
        logits: whether the student classifies; otherwise the losses look at features of hint points alone.

    Raises:
        PursuhintError: there is no term, none has a weight, or a weight is not a number of at least 0; a loss
            needs a teacher and there is none; cross-entropy is given beside a loss that contains it; student
            and teacher are one network; a hint point does not exist.

    Example:
        >>> terms = {"ce": Term(CrossEntropyLoss(), 0.1), "kd": Term(SoftTargetLoss(), 0.9)}
        >>> distiller = Distiller(student, terms, teacher=teacher)
        >>> distiller(batch).total.backward()
    """

    def __init__(
        self,
        student: nn.Module,
        terms: Mapping[str, Term],
        *,
        teacher: nn.Module | None = None,
        student_points: Sequence[HintPoint] = (),
        teacher_points: Sequence[HintPoint] = (),
        acceleration: Acceleration | None = None,
        logits: bool = True,
    ) -> None:
        super().__init__()
        self._logits = logits
        self.acceleration = Acceleration() if acceleration is None else acceleration
        student, teacher = _checked(student, teacher)
        if student is teacher:
            raise PursuhintError("student and teacher are the same network; copy it for self-distillation")
        check_terms(terms)
        check_teacher({name: term.loss for name, term in terms.items()}, teacher)
        self.weights = term_weights(terms)
        # Losses that alter the student come first, so that the others see the altered network.
        for term in sorted(terms.values(), key=lambda term: not term.loss.info.alters_student):
            student = term.loss.prepare(student)
        self.student = student
        self.losses = nn.ModuleDict({name: term.loss for name, term in terms.items()})

        self._student_points = tuple(student_points)
        self._teacher_points = tuple(teacher_points)
        self._selected: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        for name, term in terms.items():
            chosen = selected_points(name, term.student_points, len(student_points))
            for module in term.loss.info.extra_taps:
                chosen = (*chosen, len(self._student_points))
                self._student_points = (*self._student_points, _output_of(module))
            self._selected[name] = (chosen, selected_points(name, term.teacher_points, len(teacher_points)))

        # In a plain list, so that it is no submodule: optimisers, checkpoints and DDP never see it.
        self._teacher: list[nn.Module] = []
        if teacher is not None and any(term.loss.info.needs_teacher for term in terms.values()):
            self._teacher.append(teacher.requires_grad_(False).eval())
        # DistributedDataParallel reads this attribute: buffers that it need not broadcast to other ranks.
        self._ddp_params_and_buffers_to_ignore = [
            f"losses.{name}.{buffer}"
            for name, term in terms.items()
            for buffer in term.loss.info.shared_buffers
        ]
        if self.acceleration.compiles_losses:
            for loss in terms.values():
                loss.loss.compile()
        self._has_use_for_second_view = second_view_has_use({name: term.loss for name, term in terms.items()})
        self._warm_up: WarmUp | None = None
        self._active: tuple[str, ...] = ()
        self.begin_stage()

    # -- building ------------------------------------------------------------------------------------------

    @classmethod
    def build(
        cls,
        student: nn.Module,
        teacher: nn.Module | None,
        *,
        losses: Mapping[str, TermOptions | float | None],
        plan: HintPlan | Mapping[str, HintPlan] | None = None,
        num_classes: int | None = None,
        num_samples: int | None = None,
        example: NetworkInput,
        labels: Tensor | None = None,
        batch_size: int | None = None,
        acceleration: Acceleration | None = None,
    ) -> Distiller:
        """Make a distiller from names of losses.

        A weight of None is the paper's; KD has another one beside a further loss than by itself.
        Cross-entropy without a weight, or not named at all, gets the smallest weight that the other losses'
        papers give it; it is left out beside a loss that contains it.
        Name it with weight 0 to train without.

        Args:
            student: the network to train.
            teacher: the network to learn from, or None.
            losses: by name (`pursuhint.losses.LOSSES`): weight and options, a weight, or None.
            plan: the pairs of hint points; one plan for each loss by name where they differ; None without
                hints.
            num_classes: classes of the task. None for parts of networks that do not classify, such as the
                backbones of detectors: then all losses must look at hint points alone, none is added, and the
                loss of the task is the caller's; see `watch`.
            num_samples: size of the training set; may be left out for the same.
            example: images of the size that both networks will see, (N, C, H, W), or what else they take (a
                tuple or mapping of tensors is passed by position or by name). Both are run on them once,
                in evaluation mode, which leaves statistics and random numbers unchanged.
            labels: class of every training sample by its index, (num_samples,), for losses that draw
                negatives of other classes; -1 for samples that are held out of training.
            batch_size: samples in a batch, over all ranks, for losses that depend on it.
            acceleration: how the arithmetic is carried out.

        Raises:
            PursuhintError: a name is unknown; a loss refuses its options or the networks; the plan names a
                point that does not exist; as the constructor.

        Example:
            >>> plan = analysis.plan.with_student(find_hint_points(student, images))
            >>> task = {"num_classes": 100, "num_samples": 50_000, "example": images}
            >>> distiller = Distiller.build(student, teacher, losses={"fitnet": None}, plan=plan, **task)
        """
        student, teacher = _checked(student, teacher)
        task = Task(num_classes, num_samples, example, labels, batch_size)
        reduce_teacher = acceleration is not None and acceleration.reduce_teacher
        built = build_terms(
            student, teacher, losses=losses, plan=plan, task=task, reduce_teacher=reduce_teacher
        )
        return cls(
            student,
            built.terms,
            teacher=teacher,
            student_points=built.student_points,
            teacher_points=built.teacher_points,
            acceleration=acceleration,
            logits=num_classes is not None,
        )

    # -- training ------------------------------------------------------------------------------------------

    def forward(self, batch: Batch, teacher: Features | None = None) -> Losses:
        """Run both networks on a batch and compute the losses. The teacher runs only as deep as they need.

        A second view of each image goes through both networks together with the first, if a loss of the
        present stage looks at it; maps and embeddings are those of the first.

        Args:
            batch: images, labels and sample indices, on the device of the student.
            teacher: the teacher's features of this batch, with `teacher_outputs` in them, if it has run
                already: several distillers can share one pass. They are not used if a loss needs the
                teacher's gradients with respect to the images.

        Raises:
            PursuhintError: the batch has a second view, and no loss looks at it; or a loss refuses its
                inputs.
        """
        losses = {name: self.loss(name) for name in self._active}
        differentiate = any(loss.info.needs_input_gradients for loss in losses.values())
        batch = self._prepare_images(batch, differentiate)
        both = batch.second_view is not None and any(loss.info.sees_second_view for loss in losses.values())
        with twice_differentiable(differentiate):
            student = self._student_extractor(joined_views(batch) if both else batch.images)
        student = separated_views(student, len(batch)) if both else student
        student = replace(student, maps=tuple(map(channels_last_gradient, student.maps)))
        # as the network gives them, before losses transform them
        logits = batch.labels.new_empty(len(batch), 0) if student.logits is None else student.logits.detach()
        if self._teacher_runner is None:
            teacher = None
        elif teacher is None or differentiate:
            with twice_differentiable(differentiate):
                teacher = self._teacher_runner.of_batch(batch)
        for loss in losses.values():
            student = _transformed(student, loss)
            teacher = None if teacher is None else _transformed(teacher, loss)
        return self._weighted_sum(student, teacher, batch, logits=logits)

    @contextlib.contextmanager
    def watch(self) -> Iterator[WatchedStudent]:
        """Compute the hint losses of a forward pass that the caller's own loop starts.

        The student may be a part of a larger network, such as the backbone of a detector, and runs once, in
        that network. The teacher runs afterwards, on the images that the student got.

        Raises:
            PursuhintError: a loss looks at more than hint points, or the student is compiled.

        Example:
            >>> hints = Distiller.build(detector.backbone, other.backbone, losses={"at": 100}, plan=plan,
            ...                         example=images)
            >>> with hints.watch() as seen:
            ...     losses = detector(pictures, targets)
            >>> (sum(losses.values()) + seen.losses().total).backward()
        """
        for name in self._active:
            check_hints_only(name, self.loss(name))
        if not isinstance(self._student_extractor, FeatureExtractor):
            raise PursuhintError("a compiled student cannot be watched; leave acceleration.compile off")

        def compute(student: Features, batch: Batch) -> Losses:
            student = replace(student, maps=tuple(map(channels_last_gradient, student.maps)))
            assert self._teacher_runner is not None  # losses of hint points have a teacher
            batch = self._prepare_images(batch, differentiate=False)
            teacher = self._teacher_runner(batch.images)
            return self._weighted_sum(student, teacher, batch, logits=batch.labels.new_empty(len(batch), 0))

        with self._student_extractor.watching() as seen:
            yield WatchedStudent(seen, compute)

    def _prepare_images(self, batch: Batch, differentiate: bool) -> Batch:
        """A batch in the memory layout of the networks, requiring gradients if losses need them."""

        def prepared(values: Tensor) -> Tensor:
            if self.acceleration.channels_last and values.ndim == 4 and values.is_floating_point():
                values = values.contiguous(memory_format=torch.channels_last)
            return values.detach().requires_grad_() if differentiate else values

        if batch.second_view is not None and not self._has_use_for_second_view:
            raise PursuhintError(
                f"no loss looks at a second view of each image ({', '.join(self.losses)}); leave it out of "
                "the batch, or add a loss that does (mlkd)"
            )
        if differentiate and not (isinstance(batch.images, Tensor) and batch.images.is_floating_point()):
            names = [name for name in self._active if self.loss(name).info.needs_input_gradients]
            raise PursuhintError(
                f"loss {names[0]} differentiates the networks with respect to their input, which must be one "
                "floating-point tensor"
            )
        second = batch.second_view
        if second is not None and self.acceleration.channels_last:
            second = second.contiguous(memory_format=torch.channels_last)
        return replace(batch, images=map_tensors(batch.images, prepared), second_view=second)

    def _weighted_sum(
        self, student: Features, teacher: Features | None, batch: Batch, *, logits: Tensor
    ) -> Losses:
        """The losses of the present stage; in a warm-up they are not weighted."""
        constant = None if teacher is None else _detached(teacher)
        parts: dict[str, Tensor] = {}
        extra_metrics: dict[str, Tensor] = {}
        addends: dict[str, Tensor] = {}
        for name in self._active:
            loss = self.loss(name)
            weight = self.weights[name] if self._warm_up is None else 1.0
            own, other = self._present(name)
            features = teacher if loss.info.needs_input_gradients else constant
            with contextlib.nullcontext() if weight else torch.no_grad():
                value = loss.compute(
                    _at_points(student, own),
                    None if features is None else _at_points(features, [self._read[i] for i in other]),
                    batch,
                )
            parts[name] = value.detach()
            extra_metrics |= {f"{name}_{key}": metric for key, metric in loss.extra_metrics.items()}
            if weight:  # 0 times infinity would spoil the total
                addends[name] = weight * value
        return Losses(torch.stack(list(addends.values())).sum(), parts, logits, extra_metrics, addends)

    def train(self, mode: bool = True) -> Distiller:
        """Set student and losses to training mode; the teacher stays in evaluation mode.

        So does the student in a warm-up that does not train it.
        """
        super().train(mode)
        for teacher in self._teacher:
            teacher.eval()
        if self._warm_up is not None and not self._warm_up.trains_student:
            self.student.eval()
        return self

    def loss(self, name: str) -> Loss:
        """The loss of a term."""
        return cast(Loss, self.losses[name])

    @property
    def teacher(self) -> nn.Module | None:
        """The frozen teacher; None if no loss looks at one."""
        return self._teacher[0] if self._teacher else None

    def cache_teacher(self, batches: Iterable[Batch]) -> None:
        """Run the teacher once with the outputs of the present stage, and cache them for every sample.

        Args:
            batches: every training sample, as training will see it; see `TeacherRunner.fill`.
        """
        if self._teacher_runner is not None:
            self._teacher_runner.fill(batches)

    def run_teacher(self, batch: Batch) -> Features:
        """The outputs of the teacher that the present stage looks at, of which there are some."""
        assert self._teacher_runner is not None
        return self._teacher_runner.of_batch(self._prepare_images(batch, differentiate=False))

    @property
    def teacher_outputs(self) -> TeacherOutputs | None:
        """The outputs of the teacher that the present stage looks at; None if it looks at none."""
        return None if self._teacher_runner is None else self._teacher_runner.outputs

    # -- stages --------------------------------------------------------------------------------------------

    def warm_ups(self) -> tuple[tuple[str, WarmUp], ...]:
        """The stages that losses ask for before the main one, as (name of the term, stage), in order."""
        return tuple((name, stage) for name in self.losses for stage in self.loss(name).stages())

    def begin_stage(self, term: str | None = None, warm_up: WarmUp | None = None) -> None:
        """Begin a stage: the main one, or a warm-up, which computes one term alone and without weight.

        Call it when resuming, too: the stage is not part of the state.

        Args:
            term: the term that warms up; None for the main stage.
            warm_up: one of its stages.
        """
        self._warm_up = warm_up
        if term is None:
            self._active = tuple(name for name in self.losses if not self.loss(name).info.warm_up_only)
        else:
            self._active = (term,)
        for name in self.losses:
            self.loss(name).begin_stage(warm_up.name if warm_up is not None and name == term else None)
        self._attach_extractors()
        self.train(self.training)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Pass the progress of the main stage to the losses, before each of its epochs, resumed ones too.

        Args:
            epoch: number of the epoch that begins, from 0.
            epochs: how many the main stage has.
        """
        for name in self.losses:
            self.loss(name).begin_epoch(epoch, epochs)
        if self.changes_hints:
            self._attach_teacher()

    def resume_epoch(self) -> None:
        """The state of an unfinished epoch was loaded after `begin_epoch`, with its hint points."""
        for loss in self._scheduled():
            loss.resume_epoch()
        if self.changes_hints:
            self._attach_teacher()

    @property
    def restarted(self) -> int:
        """The main stage's epoch, from 0, in which hints have begun the learning rate anew; 0 if none."""
        return max((loss.restarted for loss in self._scheduled()), default=0)

    def _scheduled(self) -> list[ScheduledHints]:
        return [loss for loss in self.losses.values() if isinstance(loss, ScheduledHints)]

    @property
    def changes_hints(self) -> bool:
        """Whether the hint points of a loss change while the student trains."""
        return bool(self._scheduled())

    def trainable_parameters(self) -> list[nn.Parameter]:
        """Parameters that the present stage trains: all in the main stage, those of the term in a warm-up."""
        if self._warm_up is None:
            parameters = list(self.parameters())
        else:
            modules: list[nn.Module] = [self.student] if self._warm_up.trains_student else []
            modules += [self.losses[name] for name in self._active]
            parameters = [parameter for module in modules for parameter in module.parameters()]
        return [parameter for parameter in parameters if parameter.requires_grad]

    # -- after training ------------------------------------------------------------------------------------

    def export(self) -> nn.Module:
        """The student for evaluation and use, without what the losses added for training.

        Returns:
            ``distiller.student`` itself where no loss alters it; otherwise a copy in the same mode, from
            which the losses have removed or folded what they added.
        """
        if not any(self.loss(name).info.alters_student for name in self.losses):
            return self.student
        student = copy_network(self.student)
        for name in reversed(tuple(self.losses)):
            student = self.loss(name).export(student)
        return student

    def other_heads(self) -> dict[str, nn.Module]:
        """Further networks to evaluate, as ``TERM_NAME``: the student with another head, in its mode."""
        return {
            f"{name}_{what}": network
            for name in self._active
            if type(self.loss(name)).other_heads is not Loss.other_heads
            for what, network in self.loss(name).other_heads(copy_network(self.student)).items()
        }

    # -- inner workings ------------------------------------------------------------------------------------

    def _attach_extractors(self) -> None:
        losses = {name: self.loss(name) for name in self._active}
        inputs = {entry for loss in losses.values() for entry in loss.info.inputs}
        embedding = "student_embedding" in inputs
        self._student_extractor = (
            CompiledExtractor(
                self.student, self._student_points, embedding=embedding, mode=self.acceleration.compile_mode
            )
            if self.acceleration.compiles_student
            else FeatureExtractor(
                self.student, self._student_points, logits=self._logits, embedding=embedding
            )
        )
        self._teacher_runner: TeacherRunner | None = None
        self._attach_teacher()

    def _attach_teacher(self) -> None:
        """Read the teacher at the points of the present stage and epoch, and no deeper than they are."""
        losses = [self.loss(name) for name in self._active]
        read = list(range(len(self._teacher_points)))
        if self.changes_hints and not (
            self.acceleration.cache_teacher or self.acceleration.compiles_teacher
        ):  # a cache holds all epochs, and a compiled network would be compiled anew
            read = sorted({index for name in self._active for index in self._present(name)[1]})
        self._read = {index: place for place, index in enumerate(read)}
        if not self._teacher or not any(loss.info.needs_teacher for loss in losses):
            return
        inputs = {entry for loss in losses for entry in loss.info.inputs}
        outputs = TeacherOutputs(
            tuple(self._teacher_points[index] for index in read),
            logits="teacher_logits" in inputs,
            embedding="teacher_embedding" in inputs,
            second_view="teacher_second_logits" in inputs,
            input_gradients=any(loss.info.needs_input_gradients for loss in losses),
        )
        if self._teacher_runner is None or self._teacher_runner.outputs != outputs:
            self._teacher_runner = TeacherRunner(self._teacher[0], outputs, self.acceleration)

    def _present(self, name: str) -> tuple[Sequence[int], Sequence[int]]:
        """Indices of the student's and the teacher's points that a term sees now."""
        own, other = self._selected[name]
        loss = self.losses[name]
        if not isinstance(loss, ScheduledHints):
            return own, other
        pairs = loss.present_pairs
        return [own[pair] for pair in pairs], [other[pair] for pair in pairs]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Distiller:
        """Apply ``to``, ``cuda``, ``double`` and the like to the teacher as well."""
        super()._apply(fn, recurse)
        for teacher in self._teacher:
            teacher._apply(fn, recurse)
        return self


def _checked(student: nn.Module, teacher: nn.Module | None) -> tuple[nn.Module, nn.Module | None]:
    """Both networks without wrappers, after a check that they are networks whose layers can be read."""
    check_network(student, "student")
    if teacher is not None:
        check_network(teacher, "teacher")
    return runnable(student), None if teacher is None else unwrapped(teacher)


def _output_of(module: str) -> HintPoint:
    """Hint point at a module that a loss has added to the student; it has no position among candidates."""
    return HintPoint(module, 0, 0, "post", 0, (), 0, Tap(module, "output", copy=True))


# ---------------------------------------------------------------------------------------------------------
# Features of one loss


def _at_points(features: Features, indices: Sequence[int]) -> Features:
    return replace(features, maps=tuple(features.maps[index] for index in indices))


def _transformed(features: Features, loss: Loss) -> Features:
    if features.logits is None:
        return features
    second = features.second_logits
    return replace(
        features,
        logits=loss.transform_logits(features.logits),
        second_logits=None if second is None else loss.transform_logits(second),
    )


def _detached(features: Features) -> Features:
    return Features(
        None if features.logits is None else features.logits.detach(),
        None if features.embedding is None else features.embedding.detach(),
        tuple(values.detach() for values in features.maps),
        None if features.second_logits is None else features.second_logits.detach(),
    )
