"""Hint plans whose pairs do not all teach at once: the table, and the record of which teach when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from pursuhint.errors import PursuhintError

__all__ = ["SCHEDULES", "Curriculum", "DrawnEachEpoch", "Schedule"]


@dataclass(frozen=True)
class Schedule:
    """One way in which the hint points change while the student trains.

    Attributes:
        title: its name in tables and sentences.
        description: where the hints are and when, in a clause.
        pairing: how the teacher's points are paired with the student's; empty where the recipe decides.
        draws: whether the points depend on a seed.
    """

    title: str
    description: str
    pairing: str = ""
    draws: bool = False


SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {
        "random-each-epoch": Schedule(
            "random each epoch", "random sub-blocks, drawn anew for every epoch (RAIL-KD)", draws=True
        ),
        "curriculum": Schedule(
            "curriculum",
            "one sub-block after the other, from the shallowest to the deepest, each until the student is "
            "similar to it (LEAP)",
            pairing="last",
        ),
    }
)
"""Every schedule by name, as it stands in ``hints.strategy``."""


@dataclass(frozen=True)
class DrawnEachEpoch:
    """The pairs of a plan that teach in each epoch of the main stage.

    Attributes:
        epochs: for every epoch, the indices of its pairs, from the shallowest hint to the deepest.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    epochs: tuple[tuple[int, ...], ...]

    def check(self, pairs: int) -> None:
        """Check that it fits a plan with so many pairs.

        Raises:
            PursuhintError: there is no epoch, one has no pair, or an index is out of range.
        """
        if not self.epochs or not all(self.epochs):
            raise PursuhintError("a plan that is drawn for each epoch needs an epoch, and a pair in each")
        for index in (index for epoch in self.epochs for index in epoch):
            if not 0 <= index < pairs:
                raise PursuhintError(f"an epoch names the pair {index}, but there are {pairs}")

    def sentence(self, layers: int) -> str:
        """What the plan does, for the log.

        Args:
            layers: number of different layers of the teacher in the plan.
        """
        return f"{len(self.epochs[0])} of {layers} layers of the teacher, drawn anew for every epoch"


@dataclass(frozen=True)
class Curriculum:
    """When a student turns to the next pair of a plan; only one teaches at a time.

    Decided between epochs, so that no step of the training waits for a number.

    J. Zhang, A. Lee, A. Wong, J. Zou, S. BuGhanem and R. Balestriero, LEAP: Layer-skipping Efficiency via
    Adaptive Progression for Vision Transformer Distillation, 2026, https://arxiv.org/abs/2606.19483. The
    authors' code decides after every step, and its CKA of a batch is the biased one, over tokens: for pooled
    features, a small batch makes that large by itself. Here it is the debiased one of the features' means
    over space or tokens.

    Attributes:
        threshold: the similarity that is enough, in (0, 1].
        smoothing: weight of a batch in the running mean of the similarity, in (0, 1]. The mean begins at 0
            for every pair.
        cap: the most epochs for a pair but the last; None for an equal share of the epochs.
        restart: begin the schedule of the learning rate anew with every pair, over the epochs that are left.

    Raises:
        PursuhintError: a value is out of range.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    threshold: float = 0.85
    smoothing: float = 0.05
    cap: int | None = None
    restart: bool = True

    def __post_init__(self) -> None:
        for name in ("threshold", "smoothing"):
            if not 0 < getattr(self, name) <= 1:
                raise PursuhintError(
                    f"hints.curriculum.{name} must be above 0 and at most 1, got {getattr(self, name)}"
                )
        if self.cap is not None and self.cap < 1:
            raise PursuhintError(f"hints.curriculum.cap must be at least 1 epoch, got {self.cap}")

    def check(self, pairs: int) -> None:
        """It fits any number of pairs."""

    def sentence(self, layers: int) -> str:
        """What the plan does, for the log.

        Args:
            layers: number of different layers of the teacher in the plan.
        """
        return f"{layers} layers of the teacher one after the other, from the shallowest to the deepest"

    def moves_on(self, similarity: float, epochs_here: int, *, epochs: int, targets: int) -> bool:
        """Whether the student turns to the next pair.

        Args:
            similarity: running mean, of student and present target.
            epochs_here: finished epochs with this target.
            epochs: length of the main stage.
            targets: number of pairs.
        """
        cap = max(1, epochs // targets) if self.cap is None else self.cap
        return similarity >= self.threshold or epochs_here >= cap
