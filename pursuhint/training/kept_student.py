"""Which student of a warm-up the next stage begins with: the last one, or the best of the measured ones."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pursuhint.training.nearest_means import nearest_mean_accuracy
from pursuhint.training.stages import Stage

if TYPE_CHECKING:
    from accelerate import Accelerator

    from pursuhint.data import Loader
    from pursuhint.distillation.distiller import Distiller

__all__: list[str] = []

Metrics = Sequence[Mapping[str, Any]]

_FILE = "best-of-stage.pt"


@dataclass(frozen=True)
class KeptStudent:
    """A warm-up whose best student is kept.

    Attributes:
        first: number of its first epoch, from 1 over all stages.
        last: number of its last epoch.
        every: epochs between two measurements.
        split: the split that is scored.
    """

    first: int
    last: int
    every: int
    split: str

    @property
    def key(self) -> str:
        """Name of the score in the metrics of an epoch."""
        return f"nearest_mean_{self.split}"

    def measured_after(self, epoch: int) -> bool:
        """Whether the student is measured after an epoch."""
        return (epoch - self.first + 1) % self.every == 0 or epoch == self.last

    def best_epoch(self, metrics: Metrics) -> int | None:
        """Number of the first measured epoch with the highest score; None before one was measured.

        Args:
            metrics: of all epochs so far, from the first stage on.
        """
        here = range(self.first, min(self.last, len(metrics)) + 1)
        scores = {epoch: metrics[epoch - 1][self.key] for epoch in here if self.key in metrics[epoch - 1]}
        return max(scores, key=lambda epoch: (scores[epoch], -epoch)) if scores else None


def kept_students(stages: Sequence[Stage], *, validation: bool) -> dict[int, KeptStudent]:
    """The warm-ups whose best student is kept, by the number of each of their epochs.

    Args:
        stages: of the run.
        validation: whether there is a validation split, which is then scored.
    """
    found: dict[int, KeptStudent] = {}
    before = 0
    for stage in stages:
        first, before = before + 1, before + stage.epochs
        warm_up = stage.warm_up
        if warm_up is None or not warm_up.trains_student or warm_up.keep == "last":
            continue
        split = "test" if warm_up.keep == "best-of-test" else "val" if validation else "train"
        kept = KeptStudent(first, before, warm_up.score_every, split)
        found |= dict.fromkeys(range(first, before + 1), kept)
    return found


@dataclass(frozen=True)
class StudentKeeper:
    """Measures the student of such warm-ups, keeps the best one in every state, and goes back to it.

    Attributes:
        kept: see `kept_students`.
        distiller: has the student.
        accelerator: joins the ranks.
        train: makes this rank's share of the training split, without augmentation.
        tests: shares of the splits of evaluation.
        classes: of the student.
    """

    kept: Mapping[int, KeptStudent]
    distiller: Distiller
    accelerator: Accelerator
    train: Callable[[], Loader]
    tests: Mapping[str, Loader]
    classes: int

    def finish_epoch(self, before: Metrics, state: Path | None) -> dict[str, float]:
        """Measure the student after an epoch and, after the last one of its warm-up, go back to the best one.

        Collective call.

        Args:
            before: metrics of the epochs before this one.
            state: folder of the state saved last.

        Returns:
            What to add to the metrics of the epoch: the score and, after the last epoch, ``kept_epoch``.
        """
        epoch = len(before) + 1
        kept = self.kept.get(epoch)
        if kept is None or not kept.measured_after(epoch):
            return {}
        score = nearest_mean_accuracy(
            self.distiller.export(),
            self.train(),
            self.tests.get(kept.split),
            classes=self.classes,
            reduce=lambda sums: self.accelerator.reduce(sums, "sum"),
        )
        found: dict[str, float] = {kept.key: score}
        if epoch == kept.last:
            best = kept.best_epoch([*before, found])
            assert best is not None  # this epoch has a score
            if best < epoch:
                assert state is not None
                self.distiller.student.load_state_dict(torch.load(state / _FILE, weights_only=True))
            found["kept_epoch"] = best
        return found

    def save(self, folder: Path, metrics: Metrics, previous: Path | None, *, in_epoch: bool) -> None:
        """Write the best student so far of the present warm-up into a state.

        Args:
            folder: of the state.
            metrics: of the finished epochs.
            previous: of the state before.
            in_epoch: whether another epoch has begun.
        """
        epoch = len(metrics)
        kept = self.kept.get(epoch)
        best = None if kept is None or epoch == kept.last else kept.best_epoch(metrics)
        if best == epoch and not in_epoch:
            torch.save(self.distiller.student.state_dict(), folder / _FILE)
        elif best is not None and previous is not None:
            shutil.copyfile(previous / _FILE, folder / _FILE)
