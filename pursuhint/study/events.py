"""Progress events of a study, in addition to the training events of its runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pursuhint.training.events import Event
from pursuhint.training.loss_shares import DominantTerm
from pursuhint.training.multi_student.train_many import GroupStep

__all__ = [
    "ArmFinished",
    "ArmLossDominated",
    "ArmResumed",
    "ArmsStarted",
    "PhaseStarted",
    "StudyEvent",
    "Watcher",
]


@dataclass(frozen=True)
class PhaseStarted:
    """A phase of a study begins.

    Attributes:
        name: ``"teacher"``, ``"analysis"``, ``"check"``, ``"comparison"``, ``"seeds"`` or ``"report"``.
        text: a clause that describes the phase.
    """

    name: str
    text: str


@dataclass(frozen=True)
class ArmsStarted:
    """A group of runs starts training together; `pursuhint.training.GroupStep` reports its steps.

    Attributes:
        arms: names of the arms.
        seed: their seed.
        done: number of runs of the study that are finished.
        total: number of runs.
    """

    arms: tuple[str, ...]
    seed: int
    done: int
    total: int


@dataclass(frozen=True)
class ArmResumed:
    """An interrupted run resumes.

    Attributes:
        arm: name of the arm.
        seed: its seed.
        epoch: last finished epoch.
        step: last finished step of the epoch after it; 0 if there is none.
        notice: the damaged checkpoint that was passed over, if any.
    """

    arm: str
    seed: int
    epoch: int
    step: int
    notice: str | None


@dataclass(frozen=True)
class ArmLossDominated:
    """One term makes up more than 90 % of the loss of a run after the first epoch of its main stage.

    Attributes:
        arm: name of the arm.
        seed: its seed.
        term: which, and its share.
    """

    arm: str
    seed: int
    term: DominantTerm


@dataclass(frozen=True)
class ArmFinished:
    """A run of a study is finished or has failed.

    Attributes:
        arm: name of the arm.
        seed: its seed.
        number: number of runs that are finished or have failed, including this one.
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


StudyEvent = PhaseStarted | ArmsStarted | ArmResumed | ArmLossDominated | ArmFinished | GroupStep | Event
"""The closed union of all events of a study, `pursuhint.training.Event` included."""

Watcher = Callable[[StudyEvent], Any]
"""An event handler of a study."""
