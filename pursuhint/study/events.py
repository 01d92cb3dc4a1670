"""What a study tells whoever is watching, besides the events of the runs it is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pursuhint.training.events import Event

__all__ = ["ArmFinished", "ArmStarted", "PhaseStarted", "Watcher"]


@dataclass(frozen=True)
class PhaseStarted:
    """A part of a study begins.

    Attributes:
        name: ``"teacher"``, ``"analysis"``, ``"comparison"`` or ``"report"``.
        text: what happens in it, in a clause.
    """

    name: str
    text: str


@dataclass(frozen=True)
class ArmStarted:
    """A run of a comparison begins; the events of the run itself follow.

    Attributes:
        arm: name of the arm.
        seed: its seed.
        number: which run this is, from 1.
        total: number of runs.
    """

    arm: str
    seed: int
    number: int
    total: int


@dataclass(frozen=True)
class ArmFinished:
    """A run of a comparison is there.

    Attributes:
        arm: name of the arm.
        seed: its seed.
        number: which run this is, from 1.
        total: number of runs.
        top1: its test accuracy after the last epoch, percent.
        source: ``"trained"`` now (from the start or from where it was interrupted), ``"found"`` finished in
            the folder, or ``"same"`` as another arm, whose hint positions are equal.
    """

    arm: str
    seed: int
    number: int
    total: int
    top1: float
    source: str


Watcher = Callable[["PhaseStarted | ArmStarted | ArmFinished | Event"], Any]
