"""How often one way of training beats another, over several networks and data sets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from pursuhint.errors import PursuhintError
from pursuhint.study.bounds import check_fraction

__all__ = ["Improvement", "probability_of_improvement"]

Results = tuple[Sequence[float], Sequence[float]]
"""Results of an arm and of its control on one task, one a seed; larger is better."""


@dataclass(frozen=True)
class Improvement:
    """The probability that an arm beats its control.

    Attributes:
        probability: mean over the tasks, in [0, 1]; 0.5 where the arms are equal.
        low: lower end of the bootstrap interval.
        high: upper end of it.
        by_task: the probability on every task.
        confidence: of the interval, in (0, 1).
    """

    probability: float
    low: float
    high: float
    by_task: Mapping[str, float]
    confidence: float

    def __str__(self) -> str:
        return (
            f"the arm beats the control with probability {self.probability:.2f} ({self.confidence * 100:g} % "
            f"interval {self.low:.2f} to {self.high:.2f}) over {len(self.by_task)} tasks"
        )


def probability_of_improvement(
    tasks: Mapping[str, Results],
    *,
    paired: bool = False,
    confidence: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Improvement:
    r"""The probability that an arm beats its control on a task drawn at random.

    For results :math:`x_1 \dots x_n` of the arm and :math:`y_1 \dots y_m` of the control on one task it is
    :math:`\frac{1}{n m} \sum_{ij} [x_i > y_j] + \frac{1}{2} [x_i = y_j]`, averaged over tasks (Agarwal,
    Schwarzer, Castro, Courville and Bellemare, 2021, *Deep reinforcement learning at the edge of the
    statistical precipice*, NeurIPS). It takes no scale for granted, so that points on different data sets
    need not be comparable. The interval is the percentile interval of a stratified bootstrap: seeds are drawn
    anew within every task, the tasks stay. With few seeds such intervals are too narrow, and where one arm
    wins throughout the interval has no width.

    Args:
        tasks: results of arm and control by task, such as a pair of networks on a data set.
        paired: compare within a seed only (:math:`i = j`), and draw the seeds of both arms together.
        confidence: of the interval, in (0, 1).
        resamples: number of bootstrap samples, at least 1.
        seed: of the bootstrap.

    Raises:
        PursuhintError: there are no tasks, a task has no results, not the same number in both arms with
            ``paired``, or one that is not finite; an option is out of range.
    """
    check_fraction("confidence", confidence)
    if resamples < 1:
        raise PursuhintError(f"resamples must be at least 1, got {resamples}")
    if not tasks:
        raise PursuhintError("the probability of improvement needs at least one task")
    generator = np.random.default_rng(seed)
    by_task, drawn = {}, np.zeros(resamples)
    for task, results in tasks.items():
        wins = _wins(task, results, paired=paired)
        rows = _shares(generator, resamples, len(wins))
        if paired:
            wins = np.diag(wins)
            by_task[task] = float(wins.mean())
            drawn += rows @ wins
        else:
            columns = _shares(generator, resamples, wins.shape[1])
            by_task[task] = float(wins.mean())
            drawn += ((rows @ wins) * columns).sum(axis=1)
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn / len(tasks), [tail, 1 - tail])
    return Improvement(
        probability=float(np.mean(list(by_task.values()))),
        low=float(low),
        high=float(high),
        by_task=MappingProxyType(by_task),
        confidence=confidence,
    )


def _wins(task: str, results: Results, *, paired: bool) -> NDArray[np.float64]:
    """1 where a result of the arm beats one of the control, 0.5 where equal, else 0: (arm, control)."""
    arm, control = (np.asarray(values, dtype=float) for values in results)
    for name, values in (("arm", arm), ("control", control)):
        if values.ndim != 1 or len(values) == 0 or not np.isfinite(values).all():
            raise PursuhintError(
                f"the results of the {name} on {task} must be finite numbers, one a seed, "
                f"got {values.tolist()}"
            )
    if paired and len(arm) != len(control):
        raise PursuhintError(
            f"paired results need the same seeds in both arms; on {task} the arm has {len(arm)} and the "
            f"control {len(control)}"
        )
    return (np.sign(arm[:, None] - control[None, :]) + 1) / 2


def _shares(generator: np.random.Generator, resamples: int, seeds: int) -> NDArray[np.float64]:
    """How often every seed is drawn in each bootstrap sample, as a fraction: (resamples, seeds)."""
    return generator.multinomial(seeds, [1 / seeds] * seeds, size=resamples) / seeds
