"""Accuracy of a teacher before it teaches, and what is said of it. Importing this imports no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pursuhint._util.warn_user import warn_user
from pursuhint.errors import PursuhintError

__all__ = ["TeacherAccuracy"]

NEW_HEAD = "its classifier is new and untrained"


@dataclass(frozen=True)
class TeacherAccuracy:
    """Accuracy of a teacher on the test split, or why it was not measured.

    Attributes:
        network: name of the teacher.
        data: name of the data set.
        top1: percent of test samples whose class has the highest score; None if not measured.
        samples: test samples.
        chance: percent of test samples in the most frequent class, which always naming that class gets right.
        near_chance: whether guessing so would be right on as many of so many images with a probability of
            more than 1 % (one-sided binomial test with the probability ``chance``).
        reason: why the accuracy was not measured; empty if it was.
        random_weights: whether the weights are known to be untrained.
    """

    network: str
    data: str
    top1: float | None = None
    samples: int = 0
    chance: float = 0.0
    near_chance: bool = False
    reason: str = ""
    random_weights: bool = False

    def line(self) -> str:
        """The accuracy, or why there is none, in one line for people."""
        if self.top1 is None:
            return f"teacher {self.network}: accuracy not measured, since {self.reason}"
        return (
            f"teacher {self.network}: top-1 {self.top1:.2f} % on the {self.samples:,} test samples of "
            f"{self.data}"
        )

    def warning(self) -> str | None:
        """What is wrong with the teacher, in one sentence; None if nothing is."""
        if self.random_weights:
            return f"the teacher {self.network} has random weights: its layers say nothing of a trained one's"
        if not self.near_chance:
            return None
        return (
            f"the teacher {self.network} is near chance: it is right on {self.top1:.2f} % of the "
            f"{self.samples:,} test samples of {self.data}, and always naming the most frequent class on "
            f"{self.chance:.2f} %; check its weights, the order of the classes and how images are normalized"
        )

    def warn(self) -> None:
        """Issue the warning, if there is one, on rank 0."""
        from pursuhint._util.distributed import is_main_process

        text = self.warning()
        if text is not None and is_main_process():
            warn_user(text)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TeacherAccuracy:
        """What `to_dict` gave.

        Raises:
            PursuhintError: an entry is missing or unknown.
        """
        try:
            return cls(**values)
        except TypeError:
            raise PursuhintError("the stored accuracy of the teacher is damaged") from None
