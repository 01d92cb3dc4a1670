"""Hint plans whose pairs do not all teach at once: the table, and the record of which teach when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from pursuhint.errors import PursuhintError

__all__ = ["SCHEDULES", "DrawnEachEpoch", "Schedule"]


@dataclass(frozen=True)
class Schedule:
    """One way in which the hint points change while the student trains.

    Attributes:
        title: its name in tables and sentences.
        description: where the hints are and when, in a clause.
    """

    title: str
    description: str


SCHEDULES: Mapping[str, Schedule] = MappingProxyType(
    {
        "random-each-epoch": Schedule(
            "random each epoch", "random sub-blocks, drawn anew for every epoch (RAIL-KD)"
        ),
    }
)
"""Every schedule by name, as it stands in ``hints.strategy``."""


@dataclass(frozen=True)
class DrawnEachEpoch:
    """The pairs of a plan that teach in each epoch of the main stage.

    Attributes:
        epochs: for every epoch, the indices of its pairs, from the shallowest hint to the deepest.
        kind: name of the record in files.
    """

    epochs: tuple[tuple[int, ...], ...]
    kind: Literal["random-each-epoch"] = "random-each-epoch"

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
