"""What a run tells whoever is watching: small frozen objects, passed to the ``on_event`` callback.

The library prints nothing; a progress bar or a log is built from these at the edge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = [
    "EpochFinished",
    "EpochStarted",
    "Event",
    "HintsChosen",
    "LossesSoFar",
    "Resumed",
    "RunStarted",
    "StepDone",
    "ignore",
]


def ignore(event: Any) -> None:
    """Nobody is watching."""


@dataclass(frozen=True)
class RunStarted:
    """Everything has been checked and training begins.

    Attributes:
        epochs: of all stages together.
        parameters: trainable parameters of the student.
        chosen_on: the split on which the best epoch is chosen, ``"val"`` or ``"test"``.
        device: where it runs.
    """

    epochs: int
    parameters: int
    chosen_on: str
    device: str


@dataclass(frozen=True)
class HintsChosen:
    """The hint points are known: ``"teacher point -> student point"``, one line a pair."""

    pairs: tuple[str, ...]


@dataclass(frozen=True)
class Resumed:
    """An interrupted run goes on.

    Attributes:
        epoch: how many whole epochs are done.
        notice: what was damaged, if anything was.
        step: how many steps of the epoch after them are done too.
    """

    epoch: int
    notice: str | None = None
    step: int = 0


@dataclass(frozen=True)
class EpochStarted:
    """An epoch begins; epochs count from 1 over all stages."""

    epoch: int
    epochs: int
    stage: str
    steps: int


@dataclass(frozen=True)
class StepDone:
    """``step`` of ``steps`` is done; this process has seen ``samples`` samples in this epoch."""

    step: int
    steps: int
    samples: int


@dataclass(frozen=True)
class LossesSoFar:
    """Every so many steps of a long epoch: how it goes.

    Attributes:
        losses: means over this process's samples of the epoch so far: ``loss``, the weighted total, and every
            term by name, unweighted.
    """

    losses: Mapping[str, float]


@dataclass(frozen=True)
class EpochFinished:
    """An epoch has been evaluated and saved; ``metrics`` is its line of ``metrics.jsonl``."""

    metrics: Mapping[str, Any]
    is_best: bool


Event = RunStarted | HintsChosen | Resumed | EpochStarted | StepDone | LossesSoFar | EpochFinished
