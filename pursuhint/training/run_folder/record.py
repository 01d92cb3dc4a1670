"""Read the files of a run folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pursuhint._util.atomic_files import LARGEST_JSON
from pursuhint._util.input_files import read_text
from pursuhint._util.json_text import parse_json
from pursuhint._util.shown import Shown
from pursuhint.errors import PursuhintError
from pursuhint.hints.plan import HintPlan
from pursuhint.training.loss_shares import DominantTerm, dominant_of_run
from pursuhint.training.recipe.received import check_code
from pursuhint.training.recipe.schema import Recipe, TextConfig
from pursuhint.training.run_folder.files import checked_epoch, read_environment
from pursuhint.training.run_folder.image_hits import load_hits

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from numpy.typing import NDArray
    from torch import nn

    from pursuhint.data import ImageData, TextData
    from pursuhint.models.teacher_accuracy import TeacherAccuracy

__all__ = ["RunRecord"]


def hints_file(loss: str) -> str:
    """Name of the file with the hint plan of a loss that does not look at the plan in ``hints.json``."""
    return f"hints-{loss}.json"


def student_after(stage: str) -> str:
    """Name of the file with the student at the end of a stage before the main one."""
    return f"student-{stage}.safetensors"


@dataclass(frozen=True, repr=False)
class RunRecord(Shown):
    """The contents of a run folder.

    Attributes:
        path: the folder.
        recipe: the resolved recipe, complete.
        metrics: one entry per epoch, as in ``metrics.jsonl``: ``epoch``, ``stage``, ``train_loss``, one
            ``train_<term>`` per term (unweighted), ``train_top1``, ``test_loss``, ``test_top1``,
            ``test_top5`` (and ``val_...`` with a validation split), ``lr``, ``seconds`` (of training) and
            ``samples_per_second``. Accuracies are in percent. Some losses add ``train_<term>_<name>`` (see
            `pursuhint.losses.Loss.extra_metrics`) and ``test_<term>_<name>_top1`` (`Loss.other_heads`).
        plan: the hint points that losses share; None for a run without.
        plans: the hint points of every loss that has its own, by name.
        environment: versions, device, seed, sizes of the data; see ``environment.json``.
        finished: whether the run is complete.
        is_main_process: False on all ranks but 0.
    """

    path: Path
    recipe: Recipe
    metrics: tuple[dict[str, Any], ...]
    plan: HintPlan | None
    environment: dict[str, Any]
    finished: bool
    is_main_process: bool = True
    plans: Mapping[str, HintPlan] = field(default_factory=dict)

    def _headline(self) -> str:
        state = "finished" if self.finished else "unfinished"
        reached = f", test accuracy {self.last['test_top1']:.2f} %" if self.metrics else ""
        return (
            f"{self.recipe.student.network} on {self.recipe.data.name}, {state}, "
            f"{len(self.metrics)} epochs{reached}, in {self.path}"
        )

    def _draw(self, axes: Axes) -> None:
        epochs = range(1, len(self.metrics) + 1)
        for split in ("train", "val", "test"):
            top1 = [line.get(f"{split}_top1") for line in self.metrics]
            if any(value is not None for value in top1):
                values = [float("nan") if value is None else value for value in top1]
                axes.plot(epochs, values, ".-", label=split)
        if axes.lines:
            axes.legend()
        axes.set(xlabel="epoch", ylabel="accuracy (top-1), %")
        axes.locator_params(axis="x", integer=True)

    def _rows(self) -> tuple[dict[str, Any], ...]:
        return self.metrics

    @classmethod
    def load(cls, folder: Path | str, *, is_main_process: bool = True) -> RunRecord:
        """Read a run folder, finished or not.

        Args:
            folder: as `pursuhint.training.train` writes it.
            is_main_process: see the attribute.

        Raises:
            PursuhintError: the folder is no run folder, or a file in it is damaged.
        """
        path = Path(folder)
        if not (path / "recipe.yaml").is_file():
            raise PursuhintError(f"{path} is not a run folder: it has no recipe.yaml")
        hints, recipe = path / "hints.json", Recipe.read(path / "recipe.yaml")
        own = {name: path / hints_file(name) for name, loss in recipe.losses.items() if loss.hints}
        return cls(
            path=path,
            recipe=recipe,
            metrics=read_metrics(path / "metrics.jsonl"),
            plan=HintPlan.load(hints) if hints.exists() else None,
            environment=read_environment(path),
            finished=(path / "result.json").exists(),
            is_main_process=is_main_process,
            plans={name: HintPlan.load(file) for name, file in own.items() if file.exists()},
        )

    @property
    def all_plans(self) -> tuple[HintPlan, ...]:
        """The hint points of the run: those that all losses share, or those of every loss with its own."""
        return tuple(self.plans.values()) if self.plan is None else (self.plan,)

    @classmethod
    def load_finished(cls, folder: Path | str) -> RunRecord:
        """Read the folder of a finished run.

        Raises:
            PursuhintError: the run is not finished, or as `load`.
        """
        record = cls.load(folder)
        if not record.finished:
            raise PursuhintError(f"the run in {folder} is not finished; run its command again to resume it")
        return record

    @property
    def dominant_term(self) -> DominantTerm | None:
        """The term with more than 90 % of the loss in the first epoch of the main stage; None without one."""
        weights = {name: loss.weight for name, loss in self.recipe.losses.items()}
        return dominant_of_run(self.metrics, weights)

    @property
    def teacher_accuracy(self) -> TeacherAccuracy | None:
        """Accuracy of the teacher before it taught; None without a teacher, or in runs of older versions."""
        from pursuhint.models.teacher_accuracy import TeacherAccuracy

        known = self.environment.get("teacher")
        return None if known is None else TeacherAccuracy.from_dict(known)

    @property
    def chosen_on(self) -> Literal["val", "test"]:
        """The split on which the best epoch is chosen: the validation split if there is one."""
        return "val" if self.metrics and "val_top1" in self.metrics[-1] else "test"

    @property
    def last(self) -> dict[str, Any]:
        """Metrics of the last epoch.

        Raises:
            PursuhintError: no epoch was finished.
        """
        if not self.metrics:
            raise PursuhintError(f"the run {self.path} has no finished epoch; train it first")
        return self.metrics[-1]

    @property
    def best(self) -> dict[str, Any]:
        """Metrics of the best epoch: the first with the highest top-1 accuracy on the split `chosen_on`.

        Raises:
            PursuhintError: no epoch was finished.
        """
        return self.metrics[best_epoch(self.metrics, self.chosen_on) - 1] if self.metrics else self.last

    def load_hits(self) -> NDArray[np.bool_] | None:
        """Whether each test image is classified correctly after the last epoch, in the order of the split.

        Returns:
            Of shape (images,); None for an unfinished run, or one of an older version.

        Raises:
            PursuhintError: ``correct.json`` is damaged.
        """
        return load_hits(self.path) if self.finished else None

    def load_student(
        self, weights: str = "last", *, network: nn.Module | None = None, trust_code: bool = False
    ) -> nn.Module:
        """The trained student, on the CPU and in evaluation mode.

        Args:
            weights: ``"last"``, ``"best"``, or the name of a warm-up that trains the student (``"matching"``
                of the loss ``refilled``) for the student at its end.
            network: what the run calls its student if that was passed from Python (``student=``); with any
                weights, since a copy of it gets the trained ones.
            trust_code: import and call the ``package.module:factory`` that the run names as its student.

        Raises:
            PursuhintError: no such weights, they do not fit ``network``, the student was passed from Python
                and ``network`` is not given, or it is code without ``trust_code``.
        """
        import torch

        from pursuhint._util.wrappers import copy_network
        from pursuhint.data.text import text_example
        from pursuhint.losses import get_loss
        from pursuhint.models.checkpoint import load_weights, read_state_dict

        files = {"last": "student.safetensors", "best": "best.safetensors"}
        if (self.path / student_after(weights)).is_file():
            files[weights] = student_after(weights)
        if weights not in files:
            raise PursuhintError(f"weights must be 'last' or 'best', got {weights!r}")
        name = self.recipe.student.network
        if network is None and name.startswith("python:"):
            raise PursuhintError(
                f"the student of {self.path} was passed from Python ({name}); pass it again: "
                "load_student(network=...)"
            )
        student = (
            self._create_student(trust_code=trust_code) if network is None else copy_network(network).cpu()
        )
        trained = read_state_dict(self.path / files[weights])
        sizes = self.environment["data"]
        example: Any = None  # tensors of the user's own, of which the file does not say the shape
        if sizes.get("tokens") is not None:
            example = text_example(sizes["tokens"])
        elif sizes.get("image_size") is not None:
            example = torch.zeros(1, sizes["in_channels"], *sizes["image_size"])
        for loss in self.recipe.losses:
            if loss.startswith("python:"):
                continue  # known in its run only
            student = get_loss(loss).rebuild(student, trained, example)
        load_weights(student, self.path / files[weights])
        return student.eval()

    def _create_student(self, *, trust_code: bool) -> nn.Module:
        """The student that the recipe names, with untrained weights."""
        from pursuhint.models import create_model

        alone = self.recipe.model_copy(update={"teacher": None})  # which is not built here
        check_code(alone, f"the run {self.path}", trust_code=trust_code)
        sizes = self.environment["data"]
        size = "in_channels" if sizes.get("tokens") is None else "vocab_size"
        options = {size: sizes[size], **self.recipe.student.options}
        return create_model(self.recipe.student.network, num_classes=sizes["num_classes"], **options)

    def load_images(self, *, download: bool = False) -> ImageData:
        """Load the data that the run used, where they must be images.

        Raises:
            PursuhintError: they are texts, or as `load_data`.
        """
        from pursuhint.data import ImageData

        data = self.load_data(download=download)
        if not isinstance(data, ImageData):
            raise PursuhintError(
                f"the run {self.path} was trained on {data.name}, and images are needed here"
            )
        return data

    def load_data(self, *, download: bool = False) -> ImageData | TextData:
        """Load the data that the run used: images, or texts with the tokenizer of the run.

        Args:
            download: fetch them when they are not there.

        Raises:
            PursuhintError: the data are missing, were passed from Python, or have other classes than the run
                was trained on, by name and order, or another size.
        """
        from pursuhint.data import ImageData
        from pursuhint.data.classes import class_difference
        from pursuhint.data.preprocessing import Normalization
        from pursuhint.data.tokenizer import FILE as TOKENIZER
        from pursuhint.training.loaders import load_data

        config = self.recipe.data.model_copy(update={"download": download})
        tokenizer = self.path / TOKENIZER
        if config.name.startswith("text:") and tokenizer.is_file():
            text = (config.text or TextConfig()).model_copy(update={"tokenizer": str(tokenizer)})
            config = config.model_copy(update={"text": text})
        data = load_data(config)
        names = self.environment["data"].get("class_names") or data.class_names
        if (change := class_difference(names, data.class_names)) is not None:
            raise PursuhintError(
                f"{data.name} is not what the run {self.path} was trained on: {change}; put the classes "
                "back, or name other data (--data)"
            )
        used = self.environment["data"].get("preprocessing")
        if used is None or not isinstance(data, ImageData):
            return data
        now = (*data.image_size, data.in_channels)
        before = (*used.get("size", data.image_size), used.get("channels", data.in_channels))
        if now != before:
            shapes = (
                f"{height}x{width} with {channels} channels" for height, width, channels in (before, now)
            )
            raise PursuhintError(
                f"the run {self.path} was trained on images of {next(shapes)}, and {data.name} loads as "
                f"{next(shapes)}: its data were passed from Python; pass them to pursuhint.evaluate"
            )
        return data.normalized_with(Normalization.from_mapping(used, used["source"]))


def best_epoch(metrics: tuple[dict[str, Any], ...] | list[dict[str, Any]], chosen_on: str) -> int:
    """Number, from 1, of the first epoch with the highest top-1 accuracy on a split."""
    return 1 + max(range(len(metrics)), key=lambda index: (metrics[index][f"{chosen_on}_top1"], -index))


def read_metrics(path: Path) -> tuple[dict[str, Any], ...]:
    """Read the lines of a ``metrics.jsonl``; none if there is no such file.

    A last line without a line break, which a crash may leave, is ignored.

    Raises:
        PursuhintError: the file cannot be read.
    """
    if not path.exists():
        return ()
    text = read_text(path, "metrics of the run", largest=LARGEST_JSON)
    whole = text[: text.rfind("\n") + 1]
    try:
        lines = [parse_json(line) for line in whole.splitlines()]
    except ValueError as error:
        raise PursuhintError(f"{path} is not valid JSON, line by line ({error}); it may be damaged") from None
    return tuple(checked_epoch(line, f"{path}, line {number}") for number, line in enumerate(lines, start=1))
