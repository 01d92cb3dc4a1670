"""What a study tells whoever is watching, besides the events of the runs it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pursuhint.training.events import Event
    from pursuhint.training.multi_student.train_many import GroupStep

__all__ = ["ArmFinished", "ArmResumed", "ArmsStarted", "PhaseStarted", "Watcher"]


@dataclass(frozen=True)
class PhaseStarted:
    """A part of a study begins.

    Attributes:
        name: ``"teacher"``, ``"analysis"``, ``"check"``, ``"comparison"`` or ``"report"``.
        text: what happens in it, in a clause.
    """

    name: str
    text: str


@dataclass(frozen=True)
class ArmsStarted:
    """Runs begin that train side by side; `pursuhint.training.GroupStep` tells of their steps.

    Attributes:
        arms: names of the arms.
        seed: their seed.
        done: how many runs of the study are there already.
        total: number of runs.
    """

    arms: tuple[str, ...]
    seed: int
    done: int
    total: int


@dataclass(frozen=True)
class ArmResumed:
    """An interrupted run goes on.

    Attributes:
        arm: name of the arm.
        seed: its seed.
        epoch: the last one that is finished.
        step: the last step of the next epoch that is.
        notice: what was damaged, if anything was.
    """

    arm: str
    seed: int
    epoch: int
    step: int
    notice: str | None


@dataclass(frozen=True)
class ArmFinished:
    """A run of a study is there.

    Attributes:
        arm: name of the arm.
        seed: its seed.
        number: how many runs are there now.
        total: number of runs.
        top1: its test accuracy after the last epoch, percent; None if it failed.
        source: ``"trained"`` now (from the start or from where it was interrupted), ``"found"`` finished in
            the folder, ``"same"`` as another arm, whose hint positions are equal, or ``"failed"``.
    """

    arm: str
    seed: int
    number: int
    total: int
    top1: float | None
    source: str


Watcher = Callable[["PhaseStarted | ArmsStarted | ArmResumed | ArmFinished | GroupStep | Event"], Any]
