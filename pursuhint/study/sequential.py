"""Adding seeds until the answer is known, with a bounded chance of a wrong one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pursuhint.errors import PursuhintError
from pursuhint.study.bounds import FEWEST_SEEDS, check_fraction

__all__ = ["SequentialPlan"]

MOST_SEEDS = 20
"""Most seeds of a study that adds them until it is decided, unless another number is given."""

ERROR = 0.05
"""Chance of a wrong answer over all looks, unless another number is given."""

_GROWTH = 1.5  # seeds of a look over those of the look before: few looks, each with something new


@dataclass(frozen=True)
class SequentialPlan:
    r"""When a study looks at its results, and at what level.

    Looking again and again at a 5 % test finds a difference where there is none far more often than in 5 % of
    studies. Here the looks are fixed beforehand and share the error: with :math:`n_k` seeds at look :math:`k`
    and :math:`n` at the last one, :math:`\alpha (n_k / n)^2` may have been spent by then (the power family of
    Kim and DeMets, 1987, Biometrika 74, with exponent 2, after Lan and DeMets, 1983, Biometrika 70), and the
    tests of a look are made at what is added there. By Bonferroni's inequality the chance of a wrong answer
    at any look is at most :math:`\alpha`, whatever the dependence between looks; no normal limit is taken,
    so that it holds for t-tests with few seeds, at the price of a little power.

    Attributes:
        first: seeds at the first look, at least 3.
        most: seeds at the last one, at least as many as at the first.
        error: chance of a wrong answer that all looks share, in (0, 1).
    """

    first: int
    most: int = MOST_SEEDS
    error: float = ERROR

    def __post_init__(self) -> None:
        check_fraction("error", self.error)
        if self.first < FEWEST_SEEDS:
            raise PursuhintError(
                f"adding seeds until the answer is known begins with at least {FEWEST_SEEDS} seeds, got "
                f"{self.first}"
            )
        if self.most < self.first:
            raise PursuhintError(
                f"the most seeds ({self.most}) must be at least those to begin with ({self.first})"
            )

    @property
    def looks(self) -> tuple[int, ...]:
        """Numbers of seeds at which results are looked at: each half as many again, up to ``most``."""
        looks = [self.first]
        while looks[-1] < self.most:
            looks.append(min(self.most, math.ceil(_GROWTH * looks[-1])))
        return tuple(looks)

    @property
    def levels(self) -> tuple[float, ...]:
        """Level of the tests at every look; their sum is ``error``."""
        spent = [0.0, *(self.error * (seeds / self.most) ** 2 for seeds in self.looks)]
        return tuple(after - before for before, after in pairwise(spent))

    def confidence(self, seeds: int) -> float:
        """Confidence level of the intervals at a look.

        Raises:
            PursuhintError: the plan has no look at so many seeds.
        """
        if seeds not in self.looks:
            raise PursuhintError(f"the plan looks at {', '.join(map(str, self.looks))} seeds, not at {seeds}")
        return 1 - self.levels[self.looks.index(seeds)]

    def seeds(self, begin: Sequence[int]) -> tuple[int, ...]:
        """All seeds that may be needed: those to begin with, and the integers after the largest of them."""
        following = max(begin) + 1
        return (*begin, *range(following, following + self.most - len(begin)))
