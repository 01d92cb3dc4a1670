"""Base classes of the losses: how a loss is built, which inputs it receives, in which precision it computes.

A loss receives tensors only. `Loss.compute` alone unpacks the features of a forward pass and decides the
precision; a new loss chooses a base class and writes ``forward`` or ``terms``.
"""

from __future__ import annotations

import dataclasses
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
from pursuhint.losses._parts.maps import map_sizes
from pursuhint.losses.checks import check_teacher_classifies, different_classes
from pursuhint.losses.context import FeatureShape, LossContext, Network
from pursuhint.losses.info import SECOND_VIEW, Input, LossInfo

if TYPE_CHECKING:
    from pursuhint.data.batch import Batch
    from pursuhint.features.extractor import Features
    from pursuhint.features.hint_points import HintPoint

__all__ = ["EmbeddingLoss", "HintLoss", "HintSum", "HintsLoss", "LabelLoss", "LogitLoss", "Loss", "WarmUp"]

Keep = Literal["last", "best", "best-of-test"]

_BATCH_FIELDS = frozenset({"images", "labels", "indices"})


@dataclass(frozen=True)
class WarmUp:
    """A stage that a loss asks for before the main one; the loss is then the only term.

    Attributes:
        name: passed to `Loss.begin_stage` when it begins.
        epochs: how long it lasts.
        trains_student: whether the student trains (in training mode) along with what the loss learns;
            otherwise the student is in evaluation mode and unchanged. Parameters that this stage gives no
            gradient keep their values in either case.
        lr: learning rate at the start; None for the base rate of the main stage.
        lr_floor: share of it at the end, where half a cosine leads to; 1 for a constant rate.
        keep: the student with which the next stage begins. ``"last"``, that of the last epoch; ``"best"``,
            that of the measured epoch with the most accurate nearest class means, with means of training
            images and scored on the validation split, or without one on the training images, each left out
            of the mean of its own class; ``"best-of-test"``, scored on the test split, which makes the
            accuracy there optimistic.
        score_every: epochs between two measurements for ``keep``; the last epoch is always measured.
    """

    name: str
    epochs: int
    trains_student: bool
    lr: float | None = None
    lr_floor: float = 1.0
    keep: Keep = "last"
    score_every: int = 10


class Loss(nn.Module):
    """Base of every loss.

    A subclass says what it looks at (by its base class, or by `LossInfo.inputs`), takes the sizes it needs as
    positional and its hyperparameters as keyword-only arguments of its constructor, and returns a scalar from
    ``forward``. What it learns are its submodules; what it remembers from batch to batch are its buffers.

    Attributes:
        info: its traits: title, source, default weights, inputs, needs. See `LossInfo`.
        extra_metrics: diagnostics of the last batch besides the value: scalars without gradient by name,
            always the same names in a stage. Their means over an epoch are logged.
    """

    info: LossInfo = LossInfo()
    extra_metrics: Mapping[str, Tensor] = MappingProxyType({})

    def __init_subclass__(cls, **options: Any) -> None:
        """Refuse a trait written as a class attribute, which nothing would read.

        Raises:
            PursuhintError: there is one.
        """
        super().__init_subclass__(**options)
        stray = [field.name for field in dataclasses.fields(LossInfo) if field.name in cls.__dict__]
        if stray:
            raise PursuhintError(
                f"{cls.__name__}: {stray[0]} is a trait and belongs into the record `info`; write "
                f"info = {cls.__mro__[1].__name__}.info.replace({stray[0]}=...)"
            )

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
        if options.get("temperature") == "learned":
            from pursuhint.losses._parts.learned_temperature import build_learned  # which extends this class

            del options["temperature"]
            return build_learned(cls, context, options)
        cls.check_context(context)
        return cls(**{**cls.arguments(context), **options})

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """Arguments of the constructor that follow from the context; none unless a loss says otherwise."""
        return {}

    @classmethod
    def _taken(cls, **arguments: Any) -> dict[str, Any]:
        """The arguments that the constructor has positional parameters for."""
        parameters = inspect.signature(cls.__init__).parameters.values()
        positional = {entry.name for entry in parameters if entry.kind is entry.POSITIONAL_OR_KEYWORD}
        return {name: value for name, value in arguments.items() if name in positional}

    @classmethod
    def check_context(cls, context: LossContext) -> None:
        """Refuse a context that lacks what the loss looks at.

        Raises:
            PursuhintError: it does.
        """
        if "student_maps" in cls.info.inputs and not (context.student_shapes and context.teacher_shapes):
            raise PursuhintError(
                f"{cls.info.title} compares hint points, but there are none; "
                "give a hint plan with a pair or more"
            )
        if cls.info.needs_teacher_classifier and context.teacher_classifier is None:
            check_teacher_classifies(cls.info.title, context, "classifier")
            raise PursuhintError(f"{cls.info.title} uses the teacher's classifier, but there is no teacher")

    @classmethod
    def needs_hint_plan(cls) -> bool:
        """Whether it looks at the hint points of a plan."""
        return "student_maps" in cls.info.inputs and not cls.info.at_last_map

    @classmethod
    def needs_second_view(cls, hyperparameters: Mapping[str, Any]) -> bool:
        """Whether the loss, which looks at a second view of each image, cannot do without one.

        Args:
            hyperparameters: of the loss, those that are not the default.
        """
        return False

    @classmethod
    def looks_at(cls, hyperparameters: Mapping[str, Any]) -> str:
        """The features that the loss looks at, in words; those of its traits unless an option names others.

        Args:
            hyperparameters: of the loss, those that are not the default.
        """
        return cls.info.taps

    @classmethod
    def only_warms_up(cls, hyperparameters: Mapping[str, Any]) -> bool:
        """Whether the loss is computed in its `stages` and not in the main one.

        Args:
            hyperparameters: of the loss, those that are not the default.
        """
        return cls.info.warm_up_only

    @classmethod
    def reads_energy(cls, hyperparameters: Mapping[str, Any]) -> bool:
        """Whether of the teacher's maps the loss reads the mean square over the channels alone.

        A map with one channel, the root of that, then gives the same value, and takes less room in a shared,
        cached or recorded pass of the teacher (``acceleration.reduce_teacher``).

        Args:
            hyperparameters: of the loss, those that are not the default.
        """
        return False

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
            PursuhintError: a name is unknown (with a suggestion), a value of the wrong type, or an option is
                given that another one leaves without effect.
        """
        known = cls.hyperparameters()
        types = typing.get_type_hints(cls.__init__)
        result = {}
        for name, value in hyperparameters.items():
            if name not in known:
                hint = did_you_mean(name, known) if known else "it has none"
                raise PursuhintError(f"{cls.info.title} has no hyperparameter {name!r}; {hint}")
            if name == "temperature" and value == "learned" and cls.info.softens_logits:
                result[name] = value
                continue
            check = TypeAdapter(types[name], config=ConfigDict(strict=True, allow_inf_nan=False))
            result[name] = _without_lists(value)  # YAML has no tuples
            try:
                check.validate_python(result[name])
            except ValidationError as error:
                expected = error.errors()[0]["msg"].removeprefix("Input should be ")
                raise PursuhintError(f"{cls.info.title}: {name} must be {expected}, got {value!r}") from None
        chosen = {**known, **result}
        for name, other, value in cls.info.only_with:
            both = {name, other} <= known.keys()  # a subclass may have fewer options
            if both and chosen[name] != known[name] and chosen[other] != value:
                raise PursuhintError(
                    f"{cls.info.title}: {name} has no effect with {other}={_written(chosen[other])}; set "
                    f"{other}={_written(value)}, or leave {name} out"
                )
        return result

    # -- computing ---------------------------------------------------------------------------------------

    def compute(self, student: Features, teacher: Features | None, batch: Batch) -> Tensor:
        """The loss of one batch, from the records of both networks.

        Computed in float32 even under autocast (half-precision inputs are converted; float64 stays). For
        images mixed from two, a loss that looks at labels is the mean of its values with the one and the
        other labels, weighted by their shares.

        Args:
            student: features of the student.
            teacher: features of the teacher, or None without a teacher.
            batch: the batch itself.

        Returns:
            Scalar, not weighted.

        Raises:
            PursuhintError: a record lacks what the loss takes.
        """
        own = next((p.dtype for p in self.parameters() if p.is_floating_point()), None)
        inputs = _at_least_float32(
            [self._input(name, student, teacher, batch) for name in self.info.inputs], own
        )
        if self.info.needs_input_gradients:  # the very tensor that the features were computed from
            inputs = [
                batch.images if name == "images" else value for name, value in zip(self.info.inputs, inputs)
            ]
        with torch.autocast(batch.labels.device.type, enabled=False):
            value: Tensor = self(*inputs)
            if batch.other_labels is not None and "labels" in self.info.inputs:
                others = [
                    batch.other_labels if name == "labels" else value
                    for name, value in zip(self.info.inputs, inputs)
                ]
                value = batch.share * value + (1 - batch.share) * self(*others)
        return value

    @classmethod
    def check_mixed_images(cls) -> None:
        """Refuse images that are made of two (mixup, CutMix) if the loss keeps something of every sample.

        Raises:
            PursuhintError: it does, by index.
        """
        if "indices" in cls.info.inputs:
            raise PursuhintError(
                f"{cls.info.title} remembers samples by their index, but a mixed image is not one sample; "
                "leave out mixup and cutmix in data.augment"
            )

    def forward(self, *inputs: Any) -> Tensor:
        """The loss of one batch: the sum of its `terms`.

        A loss writes either this or `terms`; both take the values named in `LossInfo.inputs`.

        Returns:
            Scalar, not weighted.

        Raises:
            PursuhintError: the class writes neither.
        """
        if type(self).terms is Loss.terms:
            raise PursuhintError(f"{type(self).__name__} computes nothing: write forward or terms")
        return torch.stack(list(self.terms(*inputs).values())).sum()

    def terms(self, *inputs: Any) -> dict[str, Tensor]:
        """The addends of the loss by name, for the log; by default one, the loss itself."""
        return {"loss": self(*inputs)}

    def _input(self, name: Input, student: Features, teacher: Features | None, batch: Batch) -> Any:
        if name in _BATCH_FIELDS:
            return getattr(batch, name)
        network, _, field = name.partition("_")
        features = student if network == "student" else teacher
        value = getattr(features, field) if features is not None else None
        if value is None and features is not None and name in SECOND_VIEW:
            return None
        if value is None:
            reason = "there is no teacher" if features is None else f"the {network}'s record lacks it"
            raise PursuhintError(f"{self.info.title} compares the {network}'s {field}, but {reason}")
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
        """Change logits, (N, classes), of both student and teacher, before any term receives them."""
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

    def begin_stage(self, stage: str | None) -> None:
        """A stage begins: the name of one of `stages`, or None for the main stage."""

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """An epoch of the main stage begins. For losses whose strength or form changes in time.

        Called again for the epoch in which a resumed run continues, so that its effect needs no saving.

        Args:
            epoch: its number, from 0.
            epochs: how many the main stage has.
        """


class LabelLoss(Loss):
    """Compares the student's logits with the labels: ``forward(student_logits, labels)``."""

    info = Loss.info.replace(compares="labels", needs_teacher=False, inputs=("student_logits", "labels"))


class LogitLoss(Loss):
    """Compares logits of the same classes: ``forward(student_logits, teacher_logits, labels)``."""

    info = Loss.info.replace(compares="logits", inputs=("student_logits", "teacher_logits", "labels"))

    @classmethod
    def check_context(cls, context: LossContext) -> None:
        """Refuse a context that lacks what the loss looks at, or whose networks know different classes.

        Raises:
            PursuhintError: it does.
        """
        super().check_context(context)
        if context.teacher_classes not in (None, context.num_classes):
            check_teacher_classifies(cls.info.title, context)
            raise PursuhintError(
                different_classes(cls.info.title, context.teacher_classes, context.num_classes)
            )


class EmbeddingLoss(Loss):
    """Compares the inputs of the classifiers, (N, D): ``forward(student, teacher)``.

    A loss that needs sample indices, labels or logits as well extends `LossInfo.inputs`
    and gets them behind these.
    """

    info = Loss.info.replace(compares="embedding", inputs=("student_embedding", "teacher_embedding"))

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """Values of ``student_width``, ``teacher_width``, ``num_samples`` and ``labels`` that it takes."""
        return cls._taken(
            student_width=context.student_embedding,
            teacher_width=context.teacher_embedding,
            num_samples=context.num_samples,
            labels=context.labels,
        )


class HintsLoss(Loss):
    """Compares the features of all hint points together: ``forward(students, teachers)``, two lists.

    The lists are ordered from shallow to deep and need not be equally long.
    """

    info = Loss.info.replace(compares="hint points", inputs=("student_maps", "teacher_maps"))

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """Values of ``student_channels`` and ``teacher_channels`` that it takes, a width for every point.

        Raises:
            PursuhintError: the features of a pair cannot be laid out as maps (tokens).
        """
        for student, teacher in context.pairs:
            map_sizes(student, teacher)
        return cls._taken(
            student_channels=[shape.channels for shape in context.student_shapes],
            teacher_channels=[shape.channels for shape in context.teacher_shapes],
        )


class HintLoss(Loss):
    """Compares the features of one pair of hint points: ``forward(student, teacher)``.

    `build` makes one for every pair of the context and returns their `HintSum`.
    """

    info = Loss.info.replace(compares="hint points", inputs=("student_maps", "teacher_maps"))

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
        """Arguments of the constructor that follow from the shapes of one pair.

        By default those of ``student_channels``, ``teacher_channels``, ``student_size`` and ``teacher_size``
        (height and width) that it takes.

        Raises:
            PursuhintError: the features cannot be laid out as maps of two networks (tokens).
        """
        student_size, teacher_size = map_sizes(student, teacher)
        return cls._taken(
            student_channels=student.channels,
            teacher_channels=teacher.channels,
            student_size=student_size,
            teacher_size=teacher_size,
        )

    def compute(self, student: Features, teacher: Features | None, batch: Batch) -> Tensor:
        """As `Loss.compute`, for records with the features of exactly one pair.

        Raises:
            PursuhintError: a record holds more or fewer; `HintSum` takes any number.
        """
        return HintSum([self]).compute(student, teacher, batch)


class HintSum(Loss):
    """The sum of one `HintLoss` per pair of hint points.

    It has the traits of the losses that it sums, and passes every hook on to them but `Loss.other_heads`.
    Each of its `Loss.extra_metrics` is the mean over the pairs that record one of this name.

    Args:
        hints: at least one, shallow to deep, all of one class.
    """

    def __init__(self, hints: Sequence[HintLoss]) -> None:
        super().__init__()
        self.info = hints[0].info.replace(
            no_grad_parameters=_prefixed([hint.info.no_grad_parameters for hint in hints]),
            shared_buffers=_prefixed([hint.info.shared_buffers for hint in hints]),
        )
        self.hints = nn.ModuleList(hints)

    def terms(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> dict[str, Tensor]:
        """The loss of each pair: ``hint_0``, ``hint_1``, ...

        Args:
            students: the student's features, one tensor a pair.
            teachers: the teacher's.

        Raises:
            PursuhintError: the numbers of features and pairs differ.
        """
        if not len(self.hints) == len(students) == len(teachers):
            raise PursuhintError(
                f"{self.info.title} was built for {len(self.hints)} pairs of hint points, but got "
                f"features of {len(students)} student and {len(teachers)} teacher points"
            )
        values = {
            f"hint_{index}": hint(student, teacher)
            for index, (hint, student, teacher) in enumerate(zip(self.hints, students, teachers))
        }
        self.extra_metrics = _means([hint.extra_metrics for hint in self._each()])
        return values

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

    def begin_stage(self, stage: str | None) -> None:
        """Every pair begins the stage."""
        for hint in self._each():
            hint.begin_stage(stage)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Every pair begins the epoch."""
        for hint in self._each():
            hint.begin_epoch(epoch, epochs)


def _prefixed(names: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Names inside each pair's loss, as names inside their sum."""
    return tuple(f"hints.{index}.{name}" for index, own in enumerate(names) for name in own)


def _means(metrics: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of every metric over the pairs that record it."""
    found: dict[str, list[Tensor]] = {}
    for own in metrics:
        for name, value in own.items():
            found.setdefault(name, []).append(value)
    return {name: torch.stack(values).mean() for name, values in found.items()}


def _at_least_float32(values: Sequence[Any], own: torch.dtype | None) -> list[Any]:
    """Bring all floating tensors to one type, float32 or float64; the rest is passed through.

    Args:
        values: tensors and lists of them.
        own: type of the loss's own parameters, which decides if it is one of the two; student and teacher may
            differ.
    """
    floats = [tensor for tensor in _tensors(values) if tensor.is_floating_point()]
    dtype = torch.float64 if any(tensor.dtype == torch.float64 for tensor in floats) else torch.float32
    if own in (torch.float32, torch.float64):
        dtype = own

    def convert(value: Any) -> Any:
        if isinstance(value, list):
            return [convert(entry) for entry in value]
        if isinstance(value, Tensor) and value.is_floating_point():
            return value.to(dtype)
        return value

    return [convert(value) for value in values]


def _written(value: Any) -> str:
    """A value as YAML and the command line have it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _without_lists(value: Any) -> Any:
    return tuple(map(_without_lists, value)) if isinstance(value, list | tuple) else value


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    flat = [entry for value in values for entry in (value if isinstance(value, list) else [value])]
    return [entry for entry in flat if isinstance(entry, Tensor)]
