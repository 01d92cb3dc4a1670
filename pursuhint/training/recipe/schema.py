"""The recipe: all settings of a run, as data.

A recipe is a YAML file with the keys below; every key but ``student`` has a default, and that one may be left
out where a network is passed from Python. It may extend another recipe and hold variants of itself, see
`Recipe.load`. Short forms are allowed where they are obvious: ``student: resnet8`` for
``student: {network: resnet8}``, ``data: digits``, ``losses: {at: 1000}``. An unknown key is an error that
suggests the nearest one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from pursuhint._util.atomic_files import write_text
from pursuhint._util.registry import check_name, lookup
from pursuhint._util.size_bounds import LARGEST_CLASSES, LARGEST_COUNT, LARGEST_SIDE
from pursuhint.acceleration.options import Acceleration
from pursuhint.analysis.auto_samples import AutoSamples
from pursuhint.clustering import ALGORITHMS
from pursuhint.data import Flip, check_views
from pursuhint.data.class_list import parse_classes
from pursuhint.errors import PursuhintError
from pursuhint.hints.options import SelectionOptions, check_position
from pursuhint.hints.rules import looks_at_teacher
from pursuhint.hints.schedules import Curriculum
from pursuhint.losses import ALIASES, LOSSES
from pursuhint.similarity import METRICS, check_normalized
from pursuhint.training.recipe.assignments import assign
from pursuhint.training.recipe.inheritance import read_recipe, read_text
from pursuhint.training.recipe.loss_syntax import tidy_numbers
from pursuhint.training.recipe.received import Origin, check_code, read_from, without_download
from pursuhint.training.recipe.renamed import refuse_old_names
from pursuhint.training.recipe.validation_errors import explain

__all__ = [
    "DataConfig",
    "HintsConfig",
    "LossConfig",
    "NetworkConfig",
    "OptimizerConfig",
    "Recipe",
    "ScheduleConfig",
]

Options = Annotated[dict[str, Any], BeforeValidator(tidy_numbers)]


def _names(value: Any) -> Any:
    """Parse names from a list or from text with commas; ``none`` and None are an empty list."""
    if value is None or value == "none":
        return ()
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


def _classes(value: Any) -> Any:
    """Parse classes from a text with numbers and ranges; YAML reads a single one as a number."""
    if isinstance(value, str):
        return parse_classes(value)
    return (value,) if isinstance(value, int) and not isinstance(value, bool) else value


class _Section(BaseModel):
    """A section of a recipe: immutable, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


PASSED = "python:"
"""In the place of a student's name: the network is passed to the function that trains."""


class NetworkConfig(_Section):
    """A network and the source of its weights.

    Attributes:
        network: a name for `pursuhint.models.create_model`; ``python:ClassName`` marks a module that was
            passed from Python.
        checkpoint: file of weights; None keeps the initial weights.
        checkpoint_key: key of one of several state dicts in the checkpoint, e.g. ``state_dict_ema``.
        new_head: accept a checkpoint whose classifier is missing or has other classes; it stays untrained.
        partial: take the tensors of the checkpoint that fit by name and shape; the others keep their initial
            values.
        options: further arguments of the network, e.g. ``{width: 0.5}``.
        num_classes: number of classes of a teacher of another task; None for the data set's.
    """

    network: str
    checkpoint: str | None = None
    checkpoint_key: str | None = None
    new_head: bool = False
    partial: bool = False
    options: Options = {}
    num_classes: int | None = Field(default=None, ge=1, le=LARGEST_CLASSES)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"network": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _leaves_classes_to_the_data(self) -> NetworkConfig:
        if "num_classes" in self.options:
            raise PursuhintError(
                "options.num_classes: the number of classes is no option of a network; the data decide it, "
                "and teacher.num_classes is for a teacher of another task"
            )
        return self


class ChannelConstants(_Section):
    """Mean and standard deviation of each channel, of images in [0, 1].

    Attributes:
        mean: subtracted.
        std: divided by, above 0.
    """

    mean: tuple[float, ...] = Field(min_length=1)
    std: tuple[Annotated[float, Field(gt=0)], ...] = Field(min_length=1)


class TextConfig(_Section):
    """How the texts of ``text:PATH`` become tokens.

    Attributes:
        tokenizer: a ``tokenizer.json``, a folder with one (a run, ``save_pretrained``), or ``OWNER/NAME`` on
            the hub of transformers; None learns pairs of bytes from the training texts.
        vocabulary: tokens of a tokenizer that is trained, at most; all bytes are among them.
        max_tokens: tokens of a text at most; None for what a saved tokenizer says, and for 64.
    """

    tokenizer: str | None = None
    vocabulary: int = Field(default=8_000, ge=300, le=1_000_000)
    max_tokens: int | None = Field(default=None, ge=3, le=100_000)


Side = Annotated[int, Field(ge=1, le=LARGEST_SIDE)]


class DataConfig(_Section):
    """The data set.

    Attributes:
        name: a name for `pursuhint.data.load_dataset`, e.g. ``cifar100``, ``folder:PATH`` or ``text:PATH``.
        root: folder that holds the data; None for the default folder.
        download: download missing data.
        val_fraction: share of the training split held out to choose the best epoch, in [0, 1).
        workers: processes that decode files; only for data sets that do not fit into memory.
        image_size: height and width in pixels, ``[256, 128]``, or one number for squares; None for the data
            set's own.
        channels: 1 (grey) or 3 (RGB), to which images are converted; None for the data set's own.
        exif: turn image files as their EXIF orientation says; None for the default of
            `pursuhint.data.load_dataset`: yes for ``folder:PATH``.
        classes: labels to train on, as a list or a text such as ``0-49`` or ``3,7,20-29``; they are numbered
            anew in this order. None for all classes.
        train_samples: size of a class-balanced subset of the training split, for pilots and studies of small
            data; the same subset for every seed. None for all images.
        augment: augmentations of the training images: names of `pursuhint.data.AUGMENTATIONS`, as a list or
            as text with commas. ``standard`` is the data set's own augmentation. Without any (``none``) every
            sample is identical in every epoch.
        flip: ``random``, each image is mirrored in half of the epochs, drawn anew in every epoch; or
            ``alternate``, drawn once and then in every other epoch. For data whose ``standard`` augmentation
            mirrors images.
        second_view: augmentations of a second view of each training image, with draws of its own, named as in
            ``augment``; for losses that look at it (`pursuhint.losses.LossInfo.sees_second_view`), such as
            MLKD with ``standard,randaugment``. Default: none, one view.
        normalize: ``model``, as the student's own configuration says (timm, torchvision, ``pretrained_cfg``),
            converted for a teacher that says otherwise; ``data``, the data set's mean and deviation;
            ``imagenet``; or ``{mean: [...], std: [...]}``, on the scale [0, 1], for both networks. Default:
            ``model`` for networks that say what they expect, ``data`` for the others.
        text: tokens of ``text:PATH``; see `TextConfig`.
    """

    name: str = "digits"
    root: str | None = None
    download: bool = False
    val_fraction: float = Field(default=0.0, ge=0, lt=1)
    workers: int = Field(default=0, ge=0, le=LARGEST_COUNT)
    image_size: Side | tuple[Side, Side] | None = None
    channels: Literal[1, 3] | None = None
    exif: bool | None = None
    classes: Annotated[tuple[int, ...] | None, BeforeValidator(_classes)] = None
    train_samples: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    augment: Annotated[tuple[str, ...], BeforeValidator(_names)] = ("standard",)
    flip: Flip = "random"
    second_view: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    normalize: Literal["data", "imagenet", "model"] | ChannelConstants | None = None
    text: TextConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> DataConfig:
        check_views(self.augment, self.second_view)
        if self.text is not None and not self.name.startswith("text:"):
            raise PursuhintError(
                f"data.text (--tokenizer) says how texts become tokens, and {self.name} is no text:PATH; "
                "leave it out"
            )
        if self.flip != "random" and "standard" not in self.augment:
            raise PursuhintError(
                "data.flip is a part of the standard augmentation; add standard to data.augment"
            )
        return self


def _point_names(value: Any) -> Any:
    """Points by name or position, in a list or in one text with commas between them."""
    names = _names(value) if value is None or isinstance(value, str) else value
    if isinstance(names, int) and not isinstance(names, bool):
        names = (names,)
    if isinstance(names, list | tuple):
        return tuple(str(n) if isinstance(n, int) and not isinstance(n, bool) else n for n in names)
    return names


Points = Annotated[tuple[str, ...], BeforeValidator(_point_names)]

Strategy = Literal[
    "conventional",
    "centers",
    "last-map",
    "second-stage",
    "stem-and-stages",
    "all",
    "chosen",
    "random",
    "random-each-epoch",
    "curriculum",
    "even",
    "first",
    "last",
    "reverse",
    "all-to-one",
    "published",
    "influence",
    "gradnorm",
    "quality",
    "probe",
    "ablation",
    "explicit",
]


class HintsConfig(_Section):
    """Where the teacher's hints are taken and which student layers they guide.

    Attributes:
        file: a ``hints.json`` to use. ``activation`` must agree with it; ``student_points`` and ``pairing``
            complete a plan that names no student points; the other keys have no effect.
        strategy: ``conventional``, the last sub-block of every resolution stage; ``centers``, the middle one;
            ``last-map``, the end of the last stage; ``second-stage``, the end of the second;
            ``stem-and-stages``; ``all``, every sub-block of both networks, paired by relative depth;
            ``chosen``, by similarity and clustering; ``random``; ``random-each-epoch``, other ones in every
            epoch, from ``seed`` and the epoch alone; ``curriculum``, one after the other;
            a rule of `pursuhint.hints.RULES`;
            ``explicit``, the ``points`` named here.
            None: ``explicit`` with ``points``, otherwise where each loss's paper looks
            (`pursuhint.losses.LossInfo`).
        k: number of hints; None for the number of resolution stages. Of ``chosen``, ``random``,
            ``random-each-epoch`` and the rules but ``published``; of ``curriculum``, where None is all
            layers, or as many as there are epochs.
        metric: similarity metric of ``chosen`` and of the rules that look at the similarity of layers.
        algorithm: clustering algorithm of ``chosen``.
        normalize: cluster R2CCA by rank in place of R2CCA; of ``chosen`` with metric ``r2cca``.
        position: which member of a cluster becomes its hint position.
        activation: ``pre`` or ``post`` the sub-block's last activation; None for the one in each loss's
            paper. ``chosen`` points are ``post`` unless all losses look at ``pre``.
        samples: training images that ``chosen`` and the rules look at that look at images. ``auto``: until an
            analysis chooses what ``max_samples`` images choose, at the level ``stable_at``; see
            `pursuhint.analysis.AutoSamples`. Rules that need images beside it look at ``max_samples``.
        max_samples: of ``samples: auto``.
        stable_at: of ``samples: auto``.
        points: module names or positions of the teacher's hint points, for ``explicit``. One may occur twice.
        student_points: the student's points, in the same order; empty for ``pairing`` to decide.
        pairing: ``conventional``, ``even`` or ``reverse``; see `pursuhint.hints.HintPlan.with_student`.
        seed: of the draw of samples (``chosen``) or of points (``random``, ``random-each-epoch``).
        curriculum: when ``curriculum`` turns to the next point: ``threshold``, ``smoothing``, ``cap``,
            ``restart``; see `pursuhint.hints.Curriculum`. Every point of the teacher teaches the student's
            last one, or the one of ``student_points`` in its place.
    """

    file: str | None = None
    strategy: Strategy | None = None
    k: int | None = Field(default=None, ge=1, le=LARGEST_COUNT)
    metric: str = "cka"
    algorithm: str = "kmeans"
    normalize: bool = False
    position: str = "center"
    activation: Literal["pre", "post"] | None = None
    samples: Literal["auto"] | Annotated[int, Field(ge=2, le=LARGEST_COUNT)] = 10_000
    max_samples: int = Field(default=10_000, ge=2, le=LARGEST_COUNT)
    stable_at: float = Field(default=0.95, gt=0, lt=1)
    points: Points = ()
    student_points: Points = ()
    pairing: Literal["conventional", "even", "reverse"] = "conventional"
    seed: int = Field(default=0, ge=0, le=LARGEST_COUNT)
    curriculum: Curriculum | None = None

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("points") and not value.get("strategy"):
            return {**value, "strategy": "explicit"}
        return {"strategy": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> HintsConfig:
        check_name("metric", METRICS, self.metric)
        lookup("clustering algorithm", ALGORITHMS, self.algorithm)
        check_position(self.position)
        if self.normalize:
            check_normalized([self.metric])
        if self.file is None and (self.strategy == "explicit") != bool(self.points):
            raise PursuhintError(
                "hints.points and hints.strategy do not fit: give points with strategy 'explicit', "
                f"and only then (strategy {self.strategy!r}, {len(self.points)} points)"
            )
        if self.strategy == "explicit" and self.k not in (None, len(self.points)):
            raise PursuhintError(f"hints.k is {self.k}, but hints.points names {len(self.points)} points")
        return self

    @property
    def analyzed_samples(self) -> int | AutoSamples:
        """How many images an analysis takes."""
        return AutoSamples(self.stable_at, self.max_samples) if self.samples == "auto" else self.samples

    @property
    def most_samples(self) -> int:
        """The largest number of images that anything looks at."""
        return self.max_samples if self.samples == "auto" else self.samples

    @property
    def selection(self) -> SelectionOptions:
        """How ``chosen`` points are clustered and taken."""
        return SelectionOptions(self.k, self.algorithm, self.position, self.normalize)


class LossConfig(_Section):
    """One term of the total loss.

    Written as a number (the weight), as null (the paper's weight), or as a mapping of ``weight`` and the
    loss's hyperparameters: ``at: {weight: 1000, p: 2}``.

    Attributes:
        weight: at least 0; None for the paper's weight.
        hints: hint points of this loss, where it does not look at the recipe's; their strategy may not depend
            on the teacher's features, as ``chosen`` does.
        options: hyperparameters, checked by the loss itself.
    """

    weight: FiniteFloat | None = Field(default=None, ge=0)
    hints: HintsConfig | None = None
    options: Options = {}

    @model_validator(mode="before")
    @classmethod
    def _from_short_form(cls, value: Any) -> Any:
        if isinstance(value, LossConfig) or (isinstance(value, Mapping) and "options" in value):
            return value  # the attributes themselves, from Python code
        if isinstance(value, Mapping):
            options = {key: entry for key, entry in value.items() if key not in ("weight", "hints")}
            return {"weight": value.get("weight"), "hints": value.get("hints"), "options": options}
        return {"weight": value}

    @model_validator(mode="after")
    def _check(self) -> LossConfig:
        if self.hints is not None and looks_at_teacher(self.hints.strategy):
            raise PursuhintError(
                f"hints.strategy {self.hints.strategy!r} belongs to the recipe's own hints, which all losses "
                "share; a loss may have any strategy that does not look at the teacher's features"
            )
        return self

    @model_serializer
    def _to_short_form(self) -> dict[str, Any]:
        hints = {} if self.hints is None else {"hints": self.hints.model_dump(mode="json")}
        return {"weight": self.weight, **hints, **self.options}


class OptimizerConfig(_Section):
    """The optimiser of the student's and the losses' parameters.

    Attributes:
        name: ``sgd``, ``adamw``, or ``dot``: SGD with a momentum for cross-entropy and another for the other
            losses, see `pursuhint.training.dot`; it takes two backward passes a step.
        lr: base learning rate, which the schedule multiplies.
        momentum: momentum of SGD, and the mean of both of ``dot``; the first beta of AdamW.
        delta: of ``dot``, half the difference of its momenta; None for 0.075, the paper's for CIFAR-100.
        nesterov: use Nesterov momentum; SGD only.
        weight_decay: on all parameters, as in the reference implementations. SGD adds it to the gradient.
    """

    name: Literal["sgd", "adamw", "dot"] = "sgd"
    lr: FiniteFloat = Field(default=0.05, gt=0)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    delta: FiniteFloat | None = Field(default=None, ge=0)
    nesterov: bool = False
    weight_decay: FiniteFloat = Field(default=5e-4, ge=0)

    @model_validator(mode="after")
    def _check(self) -> OptimizerConfig:
        if self.nesterov and (self.name != "sgd" or self.momentum == 0):
            raise PursuhintError("optimizer.nesterov needs optimizer.name 'sgd' and a momentum above 0")
        if self.delta is not None and self.name != "dot":
            raise PursuhintError(
                f"optimizer.delta is of optimizer.name 'dot', not {self.name!r}; set optimizer.name=dot, or "
                "optimizer.delta=null"
            )
        if self.name == "dot" and not self.delta_of_dot <= min(self.momentum, 0.9999 - self.momentum):
            raise PursuhintError(
                f"optimizer 'dot' has the momenta {self.momentum - self.delta_of_dot:g} and "
                f"{self.momentum + self.delta_of_dot:g}, which must be at least 0 and below 1; change "
                "optimizer.delta"
            )
        return self

    @property
    def delta_of_dot(self) -> float:
        """``delta``, or its default."""
        return 0.075 if self.delta is None else self.delta

    @property
    def of_labels_alone(self) -> OptimizerConfig:
        """The optimizer of a student without a teacher: ``dot`` with one gradient is SGD."""
        return self if self.name != "dot" else self.model_copy(update={"name": "sgd", "delta": None})


class ScheduleConfig(_Section):
    """The learning rate over a run; see `pursuhint.training.schedules` for the formulas.

    Attributes:
        kind: ``step``, ``cosine``, ``one-cycle`` or ``constant``. Milestones without a kind mean ``step``.
        milestones: epochs after which ``step`` multiplies by ``gamma``; for no other kind.
        gamma: factor at each milestone.
        warmup_epochs: epochs of a linear rise from ``warmup_start`` to 1; not with ``one-cycle``.
        warmup_start: first factor of the warm-up.
        floor: last factor of ``cosine`` and ``one-cycle``.
        peak: share of the run at which ``one-cycle`` reaches its maximum.
        start: first factor of ``one-cycle``.
    """

    kind: Literal["step", "cosine", "one-cycle", "constant"] = "cosine"
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = ()
    gamma: FiniteFloat = Field(default=0.1, gt=0)
    warmup_epochs: int = Field(default=0, ge=0, le=LARGEST_COUNT)
    warmup_start: float = Field(default=0.01, ge=0, le=1)
    floor: float = Field(default=0.0, ge=0, le=1)
    peak: float = Field(default=0.3, gt=0, lt=1)
    start: float = Field(default=0.04, ge=0, le=1)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and value.get("milestones") and "kind" not in value:
            return {"kind": "step", **value}
        return {"kind": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _check(self) -> ScheduleConfig:
        if self.milestones and self.kind != "step":
            raise PursuhintError(
                f"schedule.milestones belong to kind 'step', not {self.kind!r}; "
                "set schedule.kind=step, or schedule.milestones=[]"
            )
        if list(self.milestones) != sorted(set(self.milestones)):
            raise PursuhintError(f"schedule.milestones must increase, got {list(self.milestones)}")
        if self.kind == "one-cycle" and self.warmup_epochs:
            raise PursuhintError(
                "schedule.warmup_epochs must be 0 with kind 'one-cycle', which has its own rise"
            )
        return self


class Recipe(_Section):
    """How to train one student.

    Attributes:
        student: the network to train; may be left out where a network is passed to the function that trains.
        teacher: the network to learn from; None trains the student alone.
        data: the data set.
        hints: hint points; None for the conventional ones if a loss needs any.
        losses: the terms by name. Cross-entropy is added, with its weight in the papers of the other terms,
            unless it is named (``ce: 0`` leaves it out) or a loss contains it.
        optimizer: the optimiser.
        schedule: the learning rate over the run.
        epochs: passes over the training split.
        batch_size: samples per step, over all ranks.
        seed: seed of initial weights, sample order, augmentation and all other random draws.
        precision: ``float32``, or automatic mixed precision in ``bf16`` or, on a GPU, ``fp16``.
        acceleration: settings of speed; see `pursuhint.acceleration.Acceleration`.
        sync_batchnorm: with several ranks, compute the statistics of batch norms over the whole batch and
            not over each rank's shard.
        save_every_steps: steps between two states saved within an epoch; 0 for none.
        trackers: loggers of metrics beside ``metrics.jsonl``: ``tensorboard``, ``wandb``.
        passed: what the run got from Python in place of parts of the recipe, by name, so that this recipe
            alone does not repeat it; written by `pursuhint.training.train`.
    """

    student: NetworkConfig = NetworkConfig(network=PASSED)
    teacher: NetworkConfig | None = None
    data: DataConfig = DataConfig()
    hints: HintsConfig | None = None
    losses: dict[str, LossConfig] = {}
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    epochs: int = Field(default=240, ge=1, le=LARGEST_COUNT)
    batch_size: int = Field(default=64, ge=1, le=LARGEST_COUNT)
    seed: int = Field(default=0, ge=0, le=LARGEST_COUNT)
    precision: Literal["float32", "bf16", "fp16"] = "float32"
    acceleration: Acceleration = Acceleration()
    sync_batchnorm: bool = False
    save_every_steps: int = Field(default=0, ge=0, le=LARGEST_COUNT)
    trackers: tuple[str, ...] = ()
    passed: tuple[str, ...] = ()

    _origin: Origin = PrivateAttr(default_factory=Origin)

    @model_validator(mode="before")
    @classmethod
    def _has_no_old_names(cls, values: Any) -> Any:
        refuse_old_names(values, "the recipe")
        return values

    @field_validator("losses", mode="before")
    @classmethod
    def _has_no_aliases(cls, losses: Any) -> Any:
        if not isinstance(losses, Mapping) or not ALIASES.keys() & losses.keys():
            return losses
        for alias, name in ALIASES.items():
            if {alias, name} <= losses.keys():
                raise PursuhintError(f"loss {alias!r} is another name of {name!r}; give one of them")
        return {ALIASES.get(name, name): loss for name, loss in losses.items()}

    @model_validator(mode="after")
    def _check(self) -> Recipe:
        for name in self.losses:
            if not name.startswith("python:"):  # which only its run can look up
                check_name("loss", LOSSES, name)
        if self.optimizer.name == "dot" and self.precision == "fp16":
            raise PursuhintError(
                "optimizer 'dot' keeps two gradients, but the loss scaling of precision 'fp16' knows one; "
                "use precision bf16 or float32"
            )
        if self.acceleration.cache_teacher and self.data.second_view:
            raise PursuhintError(
                "acceleration.cache_teacher holds the teacher's outputs for one view of each image, and "
                "data.second_view gives two; leave one of them out"
            )
        if self.acceleration.cache_teacher and self.data.augment:
            raise PursuhintError(
                "acceleration.cache_teacher needs images that look the same in every epoch, but data.augment "
                f"is {','.join(self.data.augment)}; set data.augment=none, or leave the teacher uncached"
            )
        return self

    @classmethod
    def from_dict(cls, values: Any, *, source: str = "the recipe") -> Recipe:
        """Build a recipe from plain values.

        Args:
            values: nested dictionaries, as read from YAML.
            source: name of the recipe in error messages.

        Raises:
            PursuhintError: an unknown key (with the nearest one), or a wrong value.
        """
        if not isinstance(values, Mapping):
            raise PursuhintError(f"{source} must be a mapping of keys to values, got {type(values).__name__}")
        refuse_old_names(values, source)
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            problems = explain(error.errors(include_url=False), cls)
            raise PursuhintError(f"{source}: {'; '.join(problems)}") from None

    @classmethod
    def from_yaml(cls, text: str, *, source: str = "the recipe") -> Recipe:
        """Read a recipe from YAML text, with the recipes that it extends.

        Raises:
            PursuhintError: the text is not valid YAML, a base recipe is missing, or as `from_dict`.
        """
        return cls.from_dict(read_text(text, source), source=source)

    @classmethod
    def load(cls, name_or_file: str | Path, *, trust_code: bool = False) -> Recipe:
        """Load a shipped recipe by name, or a YAML file, with the recipes that it extends.

        Args:
            name_or_file: a name of `pursuhint.recipes.RECIPES` or a file, with an optional ``:VARIANT``. In a
                file ``extends: NAME|FILE`` names a base recipe, whose sections are merged key by key, and
                ``variants`` holds named changes.
            trust_code: accept a file whose networks are ``package.module:factory``, which training imports
                and calls. Default: such a file is refused, since whoever wrote it could run anything.

        Raises:
            PursuhintError: the recipe, file or variant does not exist, is not valid, or names code.
        """
        recipe = cls.read(name_or_file)
        check_code(recipe, f"the recipe {name_or_file}", trust_code=trust_code)
        recipe._origin = Origin()
        return recipe

    @classmethod
    def read(cls, name_or_file: str | Path) -> Recipe:
        """Read a recipe as data, to show or compare it: `load` without the check of what it names.

        A file never asks for a download: ``data.download`` is False in what is read, and a warning says so.
        Code that the file names as a network is not run by `pursuhint.train` and its like, either.

        Raises:
            PursuhintError: as `load`, but for code.
        """
        values, source = read_recipe(name_or_file)
        recipe = cls.from_dict(values, source=source)
        recipe._origin = read_from(recipe, source)
        return without_download(recipe, source)

    @property
    def origin(self) -> Origin:
        """The file that the recipe was read from, unless it is trusted; see `Recipe.load`."""
        return self._origin

    def to_dict(self) -> dict[str, Any]:
        """The complete recipe as plain values for YAML or JSON."""
        return self.model_dump(mode="json")

    def dump(self) -> str:
        """The complete recipe as YAML."""
        return yaml.safe_dump(self.to_dict(), sort_keys=False, allow_unicode=True, width=100)

    def save(self, path: Path | str) -> None:
        """Write `dump` to a file, atomically.

        Raises:
            PursuhintError: the file cannot be written.
        """
        write_text(path, self.dump())

    def override(self, assignments: str | Iterable[str]) -> Recipe:
        """Copy the recipe with some values replaced.

        Args:
            assignments: ``"optimizer.lr=0.1"``, ``"teacher.network=resnet110"``, ``"losses.at=500"`` (which
                keeps the loss's hyperparameters), ``"losses.at.p=1"``, ``"hints=null"``; values as in YAML.

        Raises:
            PursuhintError: no ``=``, an unknown key (with the nearest one) or a wrong value.
        """
        values = self.to_dict()
        for assignment in [assignments] if isinstance(assignments, str) else assignments:
            assign(values, assignment)
        recipe = type(self).from_dict(values)
        recipe._origin = self._origin
        return recipe
