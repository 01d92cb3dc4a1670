"""What all losses have in common: what they look at, how they are built, how they are computed.

A loss sees tensors and nothing else. `Loss.compute` is the only place that unpacks the record of a forward
pass, and the only one that thinks about precision; a new loss chooses a base class and writes ``forward``.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

import torch
from pydantic import ConfigDict, TypeAdapter, ValidationError
from torch import Tensor, nn

from pursuhint._util.registry import did_you_mean
from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from pursuhint.data.batch import Batch
    from pursuhint.features.extractor import Features
    from pursuhint.features.hint_points import HintPoint

__all__ = [
    "EmbeddingLoss",
    "FeatureShape",
    "HintLoss",
    "HintSum",
    "HintsLoss",
    "Input",
    "LabelLoss",
    "LogitLoss",
    "Loss",
    "LossContext",
    "Network",
    "WarmUp",
    "check_choice",
    "check_non_negative",
    "check_positive",
    "check_same_batch",
    "check_same_classes",
]

Input = Literal[
    "images",
    "labels",
    "indices",
    "student_logits",
    "student_embedding",
    "student_maps",
    "teacher_logits",
    "teacher_embedding",
    "teacher_maps",
]

Network = Literal["student", "teacher"]

_BATCH_FIELDS = frozenset({"images", "labels", "indices"})


@dataclass(frozen=True)
class FeatureShape:
    """The features of one network at one hint point, without the batch.

    Attributes:
        channels: width.
        spatial: (height, width) of a feature map, (tokens,) of a sequence, () of a vector.
        activation: ``"post"`` or ``"pre"``, see `pursuhint.features.HintPoint`.
        module: name of the sub-block, for losses that look at the modules around it.
        point: the hint point itself, for losses that read the features again while building.
    """

    channels: int
    spatial: tuple[int, ...]
    activation: Literal["pre", "post"] = "post"
    module: str = ""
    point: HintPoint | None = None


@dataclass(frozen=True)
class LossContext:
    """What a loss may need to know when it is built.

    Attributes:
        pairs: the student's and the teacher's features at every pair of hint points, shallow to deep.
        num_classes: classes of the task, and width of the student's logits.
        num_samples: size of the training set, for memory banks.
        student_embedding: width of the student's embedding; 0 if no loss looks at embeddings.
        teacher_embedding: the same of the teacher.
        teacher_classifier: the teacher's last linear layer, for losses with `Loss.needs_teacher_classifier`.
        teacher_classes: width of the teacher's logits; None means ``num_classes``.
        student: the student, for losses that look for a place in it. Read while building, never kept.
        teacher: the teacher, for losses that read its weights, norms say. Read while building, never kept.
        example: images that both networks can run on, (N, C, H, W).
        labels: class of every training sample by its index, (num_samples,); -1 for samples that are held out
            of training. None if not known.
        chosen: student's and teacher's features of a loss that chooses its own hint points
            (`Loss.choose_points`); None for those of the pairs.
        batch_size: samples in a batch, over all processes; None if not known.
    """

    pairs: tuple[tuple[FeatureShape, FeatureShape], ...]
    num_classes: int
    num_samples: int
    student_embedding: int
    teacher_embedding: int
    teacher_classifier: nn.Module | None = None
    teacher_classes: int | None = None
    student: nn.Module | None = None
    teacher: nn.Module | None = None
    example: Tensor | None = None
    labels: Tensor | None = None
    chosen: tuple[tuple[FeatureShape, ...], tuple[FeatureShape, ...]] | None = None
    batch_size: int | None = None

    @property
    def student_shapes(self) -> tuple[FeatureShape, ...]:
        """The student's features, as ``forward`` gets them."""
        return tuple(own for own, _ in self.pairs) if self.chosen is None else self.chosen[0]

    @property
    def teacher_shapes(self) -> tuple[FeatureShape, ...]:
        """The teacher's features, as ``forward`` gets them."""
        return tuple(other for _, other in self.pairs) if self.chosen is None else self.chosen[1]


@dataclass(frozen=True)
class WarmUp:
    """A stage that a loss asks for before the main one; the loss is then the only term.

    Attributes:
        name: what `Loss.enter` is told when it begins.
        epochs: how long it lasts.
        trains_student: whether the student trains (in training mode) along with what the loss learns;
            otherwise the student is in evaluation mode and unchanged. Parameters that this stage gives no
            gradient keep their values in either case.
        lr: learning rate at the start; None for the base rate of the main stage.
        lr_floor: share of it at the end, where half a cosine leads to; 1 for a constant rate.
    """

    name: str
    epochs: int
    trains_student: bool
    lr: float | None = None
    lr_floor: float = 1.0


class Loss(nn.Module):
    """Base of every loss.

    A subclass says what it looks at (by its base class, or by ``inputs``), takes the sizes it needs as
    positional and its hyperparameters as keyword-only arguments of its constructor, and returns a scalar from
    ``forward``. What it learns are its submodules; what it remembers from batch to batch are its buffers.

    Attributes:
        title: name of the method, as people say it.
        paper: citation of its source.
        default_weight: the paper's weight, for CIFAR-100 where the paper gives several.
        default_ce_weight: the paper's weight of the cross-entropy beside it.
        minimum: the value for a student equal to the teacher, with what the loss learns at its best; None
            where it follows from the data, as the docstring of ``forward`` or of the class says.
        contains_classification: the loss contains the classification term, so that cross-entropy must not
            be added to it.
        needs_teacher: False for losses that look at the student alone.
        compares: what it compares, in words.
        learns: what is trained beside the student, in words; empty if nothing is.
        batch_coupled: the samples of a batch enter together, so that the loss of a batch is not the mean of
            the losses of its parts.
        inputs: what ``forward`` is given, in order. Features come as one list for all hint points.
        at_last_map: its one pair of hint points is the map that each network averages into its embedding
            (`pursuhint.features.find_last_map`), whatever the hint plan says.
        needs_teacher_classifier: `LossContext.teacher_classifier` must be set.
        needs_input_gradients: the loss differentiates logits by the images: these then require gradients
            and the teacher runs with a graph.
        no_grad_parameters: names of trainable parameters that receive no gradient, as the method has it.
        extra_taps: names of modules that `prepare` has added to the student; their outputs are appended to
            the student features that this loss gets.
        alters_student: `prepare` changes the student, so that `export` has something to do.
        warm_up_only: the loss is computed in its `stages` and not in the main one.
        shared_buffers: names of buffers that are alike in all processes whatever happens, and too large to be
            sent around for every batch: memory banks, queues.
        extra_metrics: what the last batch showed besides the value: scalars without gradient by name, always
            the same names in a stage. Their means over an epoch are logged.
    """

    title: str = ""
    paper: str = ""
    default_weight: float = 1.0
    default_ce_weight: float = 1.0
    minimum: float | None = 0.0
    contains_classification: bool = False
    needs_teacher: bool = True
    compares: str = ""
    learns: str = ""
    batch_coupled: bool = False
    inputs: tuple[Input, ...] = ()
    at_last_map: bool = False
    needs_teacher_classifier: bool = False
    needs_input_gradients: bool = False
    no_grad_parameters: tuple[str, ...] = ()
    extra_taps: tuple[str, ...] = ()
    alters_student: bool = False
    warm_up_only: bool = False
    shared_buffers: tuple[str, ...] = ()
    extra_metrics: Mapping[str, Tensor] = MappingProxyType({})

    # -- building ----------------------------------------------------------------------------------------

    @classmethod
    def build(cls, context: LossContext, **hyperparameters: Any) -> Loss:
        """Make the loss for given networks and data.

        Args:
            context: shapes and sizes.
            **hyperparameters: keyword-only arguments of the constructor; the rest keeps the paper's values.

        Raises:
            PursuhintError: a hyperparameter is unknown, of the wrong type or out of range, or the context
                lacks what the loss looks at.
        """
        options = cls.checked(hyperparameters)
        cls.check_context(context)
        return cls(**{**cls.arguments(context), **options})

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """Arguments of the constructor that follow from the context; none unless a loss says otherwise."""
        return {}

    @classmethod
    def check_context(cls, context: LossContext) -> None:
        """Refuse a context that lacks what the loss looks at.

        Raises:
            PursuhintError: it does.
        """
        if "student_maps" in cls.inputs and not (context.student_shapes and context.teacher_shapes):
            raise PursuhintError(
                f"{cls.title} compares hint points, but there are none; give a hint plan with a pair or more"
            )
        if cls.needs_teacher_classifier and context.teacher_classifier is None:
            raise PursuhintError(f"{cls.title} uses the teacher's classifier, but there is no teacher")

    @classmethod
    def needs_hint_plan(cls) -> bool:
        """Whether it looks at the hint points of a plan."""
        return "student_maps" in cls.inputs and not cls.at_last_map

    @classmethod
    def choose_points(
        cls,
        pairs: Sequence[tuple[HintPoint, HintPoint]],
        candidates: Callable[[Network], Sequence[HintPoint]],
        **hyperparameters: Any,
    ) -> tuple[Sequence[HintPoint], Sequence[HintPoint]] | None:
        """Hint points that the loss sees where they are not the pairs of the plan.

        Args:
            pairs: points of the student and the teacher, as the hint plan has them; none without a plan.
            candidates: finds all sub-blocks of one of the networks, in depth order.
            **hyperparameters: what `build` will be given.

        Returns:
            Points of the student and points of the teacher, not necessarily equally many, each in the order
            in which ``forward`` gets their features; None for the pairs as they are.
        """
        return None

    @classmethod
    def hyperparameters(cls) -> Mapping[str, Any]:
        """Names and defaults of what may be chosen: the keyword-only arguments of the constructor."""
        return {
            name: parameter.default
            for name, parameter in inspect.signature(cls.__init__).parameters.items()
            if parameter.kind is parameter.KEYWORD_ONLY
        }

    @classmethod
    def checked(cls, hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
        """Hyperparameters by name, once their names and types have been checked; lists become tuples.

        Raises:
            PursuhintError: a name is unknown (with a suggestion) or a value of the wrong type.
        """
        known = cls.hyperparameters()
        types = typing.get_type_hints(cls.__init__)
        result = {}
        for name, value in hyperparameters.items():
            if name not in known:
                hint = did_you_mean(name, known) if known else "it has none"
                raise PursuhintError(f"{cls.title} has no hyperparameter {name!r}; {hint}")
            check = TypeAdapter(types[name], config=ConfigDict(strict=True, allow_inf_nan=False))
            result[name] = _without_lists(value)  # YAML has no tuples
            try:
                check.validate_python(result[name])
            except ValidationError as error:
                expected = error.errors()[0]["msg"].removeprefix("Input should be ")
                raise PursuhintError(f"{cls.title}: {name} must be {expected}, got {value!r}") from None
        return result

    # -- computing ---------------------------------------------------------------------------------------

    def compute(self, student: Features, teacher: Features | None, batch: Batch) -> Tensor:
        """The loss of one batch, from the records of both networks.

        Computed in float32 even under autocast (half-precision inputs are converted; float64 stays). Where
        images are made of two, a loss that looks at labels is the mean of its values with the one and the
        other labels, weighted by their shares.

        Args:
            student: what the student's probe saw.
            teacher: what the teacher's probe saw, or None without a teacher.
            batch: the batch itself.

        Returns:
            Scalar, not weighted.

        Raises:
            PursuhintError: a record lacks what the loss takes.
        """
        inputs = _at_least_float32([self._input(name, student, teacher, batch) for name in self.inputs])
        if self.needs_input_gradients:  # the very tensor that the features were computed from
            inputs = [batch.images if name == "images" else value for name, value in zip(self.inputs, inputs)]
        with torch.autocast(batch.images.device.type, enabled=False):
            value: Tensor = self(*inputs)
            if batch.other_labels is not None and "labels" in self.inputs:
                others = [
                    batch.other_labels if name == "labels" else value
                    for name, value in zip(self.inputs, inputs)
                ]
                value = batch.share * value + (1 - batch.share) * self(*others)
        return value

    @classmethod
    def check_mixed_images(cls) -> None:
        """Refuse images that are made of two (mixup, CutMix) if the loss keeps something of every sample.

        Raises:
            PursuhintError: it does, by index.
        """
        if "indices" in cls.inputs:
            raise PursuhintError(
                f"{cls.title} remembers samples by their index, but a mixed image is not one sample; "
                "leave out mixup and cutmix in data.augment"
            )

    def terms(self, *inputs: Any) -> dict[str, Tensor]:
        """The addends of the loss by name; takes what ``forward`` takes, and their sum is what it returns."""
        return {"loss": self(*inputs)}

    def _input(self, name: Input, student: Features, teacher: Features | None, batch: Batch) -> Any:
        if name in _BATCH_FIELDS:
            return getattr(batch, name)
        network, _, field = name.partition("_")
        trace = student if network == "student" else teacher
        value = getattr(trace, field) if trace is not None else None
        if value is None:
            reason = "there is no teacher" if trace is None else f"the {network}'s record lacks it"
            raise PursuhintError(f"{self.title} compares the {network}'s {field}, but {reason}")
        return list(value) if field == "maps" else value

    # -- hooks, all neutral by default ---------------------------------------------------------------------

    @classmethod
    def prepared_embedding(cls, context: LossContext) -> int:
        """Width of the student's embedding after `prepare`, for the losses beside this one."""
        return context.student_embedding

    def prepare(self, student: nn.Module) -> nn.Module:
        """Extend or wrap the student before training; called once, when the distiller is made.

        Modules that a hint plan may name keep their names, and the result returns logits.
        """
        return student

    def transform_logits(self, logits: Tensor) -> Tensor:
        """Change logits, (N, classes), of student and teacher alike, before any term sees them."""
        return logits

    def export(self, student: nn.Module) -> nn.Module:
        """Turn a prepared student into the network that is kept; called on a copy, which may be changed."""
        return student

    @classmethod
    def rebuild(cls, student: nn.Module, weights: Mapping[str, Tensor], example: Tensor) -> nn.Module:
        """Give a new student the form in which `export` left a trained one, so that it fits its weights.

        For losses whose exported student has other parameters than the student had.

        Args:
            student: as it was before `prepare`; may be changed.
            weights: the exported student's, by name.
            example: images of the size that it was trained on, (N, C, H, W).
        """
        return student

    def other_heads(self, student: nn.Module) -> Mapping[str, nn.Module]:
        """Networks that predict in another way than the student that is kept; their accuracy is logged, too.

        Args:
            student: a copy of the prepared student, which may be changed.

        Returns:
            Images -> logits, by a name that says what is different.
        """
        return {}

    def stages(self) -> Sequence[WarmUp]:
        """Stages to run before the main one, in order."""
        return ()

    def enter(self, stage: str | None) -> None:
        """A stage begins: the name of one of `stages`, or None for the main stage."""

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """An epoch of the main stage begins. For losses whose strength or form changes in time.

        Called again for the epoch that a resumed run goes on with, so that nothing of it needs to be saved.

        Args:
            epoch: its number, from 0.
            epochs: how many the main stage has.
        """


class LabelLoss(Loss):
    """Compares the student's logits with the labels: ``forward(student_logits, labels)``."""

    compares = "labels"
    needs_teacher = False
    inputs: tuple[Input, ...] = ("student_logits", "labels")


class LogitLoss(Loss):
    """Compares logits of the same classes: ``forward(student_logits, teacher_logits, labels)``."""

    compares = "logits"
    inputs: tuple[Input, ...] = ("student_logits", "teacher_logits", "labels")

    @classmethod
    def check_context(cls, context: LossContext) -> None:
        super().check_context(context)
        if context.teacher_classes not in (None, context.num_classes):
            raise PursuhintError(_different_classes(cls.title, context.teacher_classes, context.num_classes))


class EmbeddingLoss(Loss):
    """Compares the inputs of the classifiers, (N, D): ``forward(student, teacher)``.

    A loss that needs sample indices, labels or logits as well extends ``inputs`` and gets them behind these.
    """

    compares = "embedding"
    inputs: tuple[Input, ...] = ("student_embedding", "teacher_embedding")


class HintsLoss(Loss):
    """Compares the features of all hint points at once: ``forward(students, teachers)``, two lists.

    The lists are ordered from shallow to deep and need not be equally long.
    """

    compares = "hint points"
    inputs: tuple[Input, ...] = ("student_maps", "teacher_maps")


class HintLoss(Loss):
    """Compares the features of one pair of hint points: ``forward(student, teacher)``.

    `build` makes one for every pair of the context and returns their `HintSum`.
    """

    compares = "hint points"
    inputs: tuple[Input, ...] = ("student_maps", "teacher_maps")

    @classmethod
    def build(cls, context: LossContext, **hyperparameters: Any) -> Loss:
        """One loss for every pair of hint points, each with what it learns, and their sum.

        Raises:
            PursuhintError: as `Loss.build`; also, shapes of a pair cannot be compared.
        """
        options = cls.checked(hyperparameters)
        cls.check_context(context)
        return HintSum([cls(**{**own, **options}) for own in cls.all_pair_arguments(context)])

    @classmethod
    def all_pair_arguments(cls, context: LossContext) -> list[dict[str, Any]]:
        """`pair_arguments` of every pair; for losses in which a pair needs more than its own shapes."""
        return [cls.pair_arguments(*pair) for pair in context.pairs]

    @classmethod
    def pair_arguments(cls, student: FeatureShape, teacher: FeatureShape) -> dict[str, Any]:
        """Arguments of the constructor that follow from the shapes of one pair; none by default."""
        return {}

    def compute(self, student: Features, teacher: Features | None, batch: Batch) -> Tensor:
        """As `Loss.compute`, for records with the features of exactly one pair.

        Raises:
            PursuhintError: a record holds more or fewer; `HintSum` takes any number.
        """
        return HintSum([self]).compute(student, teacher, batch)


class HintSum(Loss):
    """The sum of one `HintLoss` per pair of hint points.

    It describes itself as the losses it sums do, and passes every hook on to them but `Loss.other_heads`.

    Args:
        hints: at least one, shallow to deep, all of one class.
    """

    def __init__(self, hints: Sequence[HintLoss]) -> None:
        super().__init__()
        first = hints[0]
        for name in _DESCRIPTION:
            setattr(self, name, getattr(first, name))
        self.no_grad_parameters = tuple(
            f"hints.{index}.{name}" for index, hint in enumerate(hints) for name in hint.no_grad_parameters
        )
        self.shared_buffers = tuple(
            f"hints.{index}.{name}" for index, hint in enumerate(hints) for name in hint.shared_buffers
        )
        self.hints = nn.ModuleList(hints)

    def forward(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
        """Sum of the losses of all pairs.

        Args:
            students: the student's features, one tensor a pair.
            teachers: the teacher's.

        Raises:
            PursuhintError: the numbers of features and pairs differ.
        """
        return torch.stack(list(self.terms(students, teachers).values())).sum()

    def terms(self, *inputs: Any) -> dict[str, Tensor]:
        """The loss of each pair: ``hint_0``, ``hint_1``, ..."""
        students, teachers = inputs
        if not len(self.hints) == len(students) == len(teachers):
            raise PursuhintError(
                f"{self.title} was built for {len(self.hints)} pairs of hint points, but got features of "
                f"{len(students)} student and {len(teachers)} teacher points"
            )
        return {
            f"hint_{index}": hint(student, teacher)
            for index, (hint, student, teacher) in enumerate(zip(self.hints, students, teachers))
        }

    def _each(self) -> list[HintLoss]:
        return typing.cast("list[HintLoss]", list(self.hints))

    def prepare(self, student: nn.Module) -> nn.Module:
        """Let every pair prepare the student."""
        for hint in self._each():
            student = hint.prepare(student)
        return student

    def transform_logits(self, logits: Tensor) -> Tensor:
        """Let every pair transform the logits."""
        for hint in self._each():
            logits = hint.transform_logits(logits)
        return logits

    def export(self, student: nn.Module) -> nn.Module:
        """Undo what every pair has prepared, the last one first."""
        for hint in reversed(self._each()):
            student = hint.export(student)
        return student

    def stages(self) -> Sequence[WarmUp]:
        """The stages of one pair: all pairs warm up together."""
        return self._each()[0].stages()

    def enter(self, stage: str | None) -> None:
        """Tell every pair."""
        for hint in self._each():
            hint.enter(stage)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Tell every pair."""
        for hint in self._each():
            hint.begin_epoch(epoch, epochs)


_DESCRIPTION = (
    "title",
    "paper",
    "default_weight",
    "default_ce_weight",
    "minimum",
    "contains_classification",
    "needs_teacher",
    "compares",
    "learns",
    "batch_coupled",
    "inputs",
    "at_last_map",
    "needs_teacher_classifier",
    "needs_input_gradients",
    "extra_taps",
    "alters_student",
    "warm_up_only",
)


def _at_least_float32(values: Sequence[Any]) -> list[Any]:
    """Bring all floating tensors to one type, float32 or float64; the rest is passed through."""
    floats = [tensor for tensor in _tensors(values) if tensor.is_floating_point()]
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in floats) else torch.float32

    def convert(value: Any) -> Any:
        if isinstance(value, list):
            return [convert(entry) for entry in value]
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.to(dtype)
        return value

    return [convert(value) for value in values]


def _without_lists(value: Any) -> Any:
    return tuple(map(_without_lists, value)) if isinstance(value, list | tuple) else value


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    flat = [entry for value in values for entry in (value if isinstance(value, list) else [value])]
    return [entry for entry in flat if isinstance(entry, Tensor)]


# ---------------------------------------------------------------------------------------------------------
# Checks shared by the losses


def _different_classes(title: str, teacher: int | None, student: int) -> str:
    return (
        f"teacher has {teacher} classes, student {student}; {title} compares logits and needs the same "
        "classes: use a teacher of this task, or a loss that compares features"
    )


def check_same_classes(title: str, student: Tensor, teacher: Tensor) -> None:
    """Refuse logits of different shapes.

    Raises:
        PursuhintError: batch sizes or numbers of classes differ.
    """
    check_same_batch(student, teacher)
    if student.shape != teacher.shape:
        raise PursuhintError(_different_classes(title, teacher.shape[-1], student.shape[-1]))


def check_same_batch(student: Tensor, teacher: Tensor) -> None:
    """Refuse tensors of different batches.

    Raises:
        PursuhintError: their first dimensions differ.
    """
    if student.shape[0] != teacher.shape[0]:
        raise PursuhintError(
            f"teacher and student saw different batches: {teacher.shape[0]} and {student.shape[0]} samples"
        )


def check_positive(**values: float) -> None:
    """Refuse numbers that are not above zero.

    Raises:
        PursuhintError: one is zero, negative or NaN; the message names it.
    """
    for name, value in values.items():
        if not value > 0:
            raise PursuhintError(f"{name} must be positive, got {value}")


def check_non_negative(**values: float) -> None:
    """Refuse numbers below zero.

    Raises:
        PursuhintError: one is negative or NaN; the message names it.
    """
    for name, value in values.items():
        if not value >= 0:
            raise PursuhintError(f"{name} must not be negative, got {value}")


def check_choice(choices: Any, **values: str) -> None:
    """Refuse what is none of the values of a ``Literal``.

    Args:
        choices: the ``Literal``.
        **values: what is checked, by name.

    Raises:
        PursuhintError: one is none of them; the message names it.
    """
    for name, value in values.items():
        if value not in typing.get_args(choices):
            raise PursuhintError(
                f"{name} must be one of {', '.join(typing.get_args(choices))}; got {value!r}"
            )
