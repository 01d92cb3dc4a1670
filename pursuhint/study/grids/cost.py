"""What a grid costs before it is trained: cells, hours, disk."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import torch

from pursuhint._util.devices import choose_device
from pursuhint.data import ImageData, check_dataset_name, load_dataset
from pursuhint.distillation.loss_summary import LossSummary, summarize_losses
from pursuhint.errors import PursuhintError
from pursuhint.models import create_model
from pursuhint.models.checkpoint import count_parameters
from pursuhint.study.grids.cells import AS_PUBLISHED, GridCell, GridOptions, grid_cells
from pursuhint.study.grids.folder import is_finished
from pursuhint.study.grids.run import share
from pursuhint.study.profile import profile_steps
from pursuhint.training import RunRecord
from pursuhint.training.recipe.resolve import resolve_recipe
from pursuhint.training.recipe.schema import LossConfig, Recipe

if TYPE_CHECKING:
    from pursuhint.published.grids import Grid
    from pursuhint.training.recipe.schema import DataConfig

__all__ = ["GridCost", "estimate_grid"]

_STEPS = 3  # that are measured for every pair of networks
_COPIES = 8  # of the student's weights: last, best, and in each of two states network, best and momentum
_FILES = 60_000  # bytes of a run's other files
_STAGE_EPOCHS = ("warm_up_epochs", "matching_epochs")


@dataclass(frozen=True)
class _DataFacts:
    """Sizes of a data set: training images, classes, channels, side in pixels."""

    samples: int
    classes: int
    channels: int
    side: int


_FACTS: Mapping[str, _DataFacts] = MappingProxyType(
    {
        "cifar10": _DataFacts(50_000, 10, 3, 32),
        "cifar100": _DataFacts(50_000, 100, 3, 32),
        "fashion-mnist": _DataFacts(60_000, 10, 1, 28),
        "stl10": _DataFacts(5_000, 10, 3, 96),
        "tiny-imagenet": _DataFacts(100_000, 200, 3, 64),
        "cub200": _DataFacts(5_994, 200, 3, 224),
        "imagenet": _DataFacts(1_281_167, 1000, 3, 224),
    }
)


@dataclass(frozen=True)
class GridCost:
    """What is left to do for a grid, or for a share of it.

    Attributes:
        cells: how many there are.
        finished: how many of them are finished.
        steps: training steps of the others.
        hours: of these steps, on one device.
        gigabytes: that the folder takes once all are finished (10**9 bytes).
        speeds: seconds of a step by pair of networks, as ``resnet56 -> resnet20``.
        basis: where the seconds come from, in words.
    """

    cells: int
    finished: int
    steps: int
    hours: float
    gigabytes: float
    speeds: Mapping[str, float]
    basis: str

    def lines(self) -> list[str]:
        """The numbers in words."""
        return [
            f"{self.cells} cells, {self.finished} of them finished; {self.steps:,} training steps are left",
            f"{self.hours:,.1f} hours on one device ({self.basis})",
            f"{self.gigabytes:,.1f} GB of disk when all are finished",
        ]


def estimate_grid(
    grid: Grid,
    out: Path | str,
    options: GridOptions = AS_PUBLISHED,
    *,
    part: tuple[int, int] = (1, 1),
    seconds_per_step: float | None = None,
    device: torch.device | str | None = None,
) -> GridCost:
    """Count the cells of a grid, and estimate hours and disk. Nothing is written, and no data are needed.

    A step takes as long as in the finished cells of the folder with the same networks; for other pairs some
    steps are taken with random images and KD. Decoding, evaluation, the choice of hint positions, and what a
    loss computes beyond KD are not in it.

    Args:
        grid: see `pursuhint.published.find_grid`.
        out: the folder.
        options: what is changed in every cell.
        part: number of a share, from 1, and how many shares there are.
        seconds_per_step: of every cell, instead of a measurement.
        device: where to measure; None for the best there is.

    Raises:
        PursuhintError: as `pursuhint.study.run_grid`; or the size of the data is not known.
    """
    folder = Path(out)
    cells = share(grid_cells(grid, folder, options), *part)
    finished = {cell.name for cell in cells if is_finished(folder / cell.name)}
    facts = _Facts()
    steps = {cell.name: facts.steps(cell.recipe) for cell in cells if cell.name not in finished}
    speeds: dict[str, float] = {}
    seconds = 0.0
    known = {} if seconds_per_step is not None else _seconds_of_finished(cells, folder, facts)
    for cell in cells:
        if cell.name in steps:
            pair = _pair(cell.recipe)
            if pair not in speeds:
                speeds[pair] = seconds_per_step or known.get(pair) or facts.measure(cell.recipe, device)
            seconds += steps[cell.name] * speeds[pair]
    if seconds_per_step is not None:
        basis = f"{seconds_per_step:g} s a step, as given"
    elif set(speeds) <= set(known):
        basis = "as fast as the finished cells"
    else:
        basis = "steps measured with KD and random images, without evaluation; other losses may take longer"
    return GridCost(
        len(cells),
        len(finished),
        sum(steps.values()),
        seconds / 3600,
        sum(facts.bytes(cell.recipe) for cell in cells) / 1e9,
        speeds,
        basis,
    )


def _pair(recipe: Recipe) -> str:
    teacher = "" if recipe.teacher is None else f"{recipe.teacher.network} -> "
    return f"{teacher}{recipe.student.network}"


def _seconds_of_finished(cells: Sequence[GridCell], folder: Path, facts: _Facts) -> dict[str, float]:
    """Mean seconds of a step in the finished cells, evaluation left out, by pair."""
    found: dict[str, list[float]] = {}
    for cell in cells:
        if is_finished(folder / cell.name):
            metrics = RunRecord.load(folder / cell.name).metrics
            seconds = sum(one["seconds"] for one in metrics)
            found.setdefault(_pair(cell.recipe), []).append(
                seconds / (len(metrics) * facts.steps_per_epoch(cell.recipe))
            )
    return {pair: sum(values) / len(values) for pair, values in found.items()}


@functools.cache
def _summary(loss: str) -> LossSummary:
    """Stages and memory of a loss with its defaults."""
    return summarize_losses([loss])[0]


class _Facts:
    """Sizes of data and networks, each looked up once."""

    def __init__(self) -> None:
        self._data: dict[str, _DataFacts] = {}
        self._weights: dict[tuple[Any, ...], int] = {}

    def steps_per_epoch(self, recipe: Recipe) -> int:
        """Batches of an epoch."""
        return math.ceil(self._samples(recipe.data) / recipe.batch_size)

    def steps(self, recipe: Recipe) -> int:
        """Training steps of a run, those of warm-ups included."""
        epochs = recipe.epochs
        for name, loss in resolve_recipe(recipe).losses.items():
            if _summary(name).stages:
                epochs += sum(int(loss.options.get(key) or 0) for key in _STAGE_EPOCHS)
        return epochs * self.steps_per_epoch(recipe)

    def bytes(self, recipe: Recipe) -> float:
        """Of the run's folder."""
        facts = self._of(recipe.data)
        key = (recipe.student.network, facts.classes, facts.channels)
        if key not in self._weights:
            with torch.device("meta"):
                network = create_model(key[0], num_classes=facts.classes, in_channels=facts.channels)
            self._weights[key] = count_parameters(network) * 4
        banks = sum(_summary(name).bytes_per_sample for name in recipe.losses) * self._samples(recipe.data)
        return _COPIES * self._weights[key] + 2 * banks + _FILES

    def measure(self, recipe: Recipe, device: torch.device | str | None) -> float:
        """Seconds of a step with KD, or of the student alone, on random images and random weights."""
        facts = self._of(recipe.data)
        number = 2 * recipe.batch_size
        generator = torch.Generator().manual_seed(0)
        shape = (number, facts.channels, facts.side, facts.side)
        images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
        split = (images, torch.arange(number) % facts.classes)
        data = ImageData.from_tensors(recipe.data.name, train=split, test=split, num_classes=facts.classes)
        teacher, losses = None, {"ce": LossConfig(weight=1.0)}
        if recipe.teacher is not None:
            losses["kd"] = LossConfig(weight=1.0)
            teacher = create_model(
                recipe.teacher.network, num_classes=facts.classes, in_channels=facts.channels
            )
        plain = recipe.model_copy(
            update={
                "losses": losses,
                "hints": None,
                "teacher": recipe.teacher and recipe.teacher.model_copy(update={"checkpoint": None}),
                "data": recipe.data.model_copy(
                    update={"workers": 0, "train_samples": None, "val_fraction": 0.0, "classes": None}
                ),
            }
        )
        return profile_steps(
            plain, steps=_STEPS, device=choose_device(device), teacher=teacher, data=data
        ).total

    def _samples(self, config: DataConfig) -> int:
        facts = self._of(config)
        samples = facts.samples if config.train_samples is None else config.train_samples
        return max(1, round(samples * (1 - config.val_fraction)))

    def _of(self, config: DataConfig) -> _DataFacts:
        if config.name not in self._data:
            self._data[config.name] = self._look_up(config)
        facts = self._data[config.name]
        side = config.image_size if isinstance(config.image_size, int) else facts.side
        return _DataFacts(
            facts.samples,
            facts.classes if config.classes is None else len(config.classes),
            config.channels or facts.channels,
            max(side) if isinstance(side, tuple) else side,
        )

    def _look_up(self, config: DataConfig) -> _DataFacts:
        if config.name in _FACTS:
            return _FACTS[config.name]
        try:
            check_dataset_name(config.name)
            place: dict[str, Any] = {} if config.root is None else {"root": config.root}
            data = load_dataset(config.name, image_size=config.image_size, channels=config.channels, **place)
        except PursuhintError as error:
            raise PursuhintError(f"the size of the data is not known: {error}") from error
        return _DataFacts(len(data.train), data.num_classes, data.in_channels, max(data.image_size))
