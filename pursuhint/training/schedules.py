"""Learning-rate schedules as pure functions of progress.

A schedule maps ``progress``, the finished fraction of a stage, to the factor of the base learning rate. It
has no state, so a resumed run needs only its step number.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Sequence

from pursuhint.training.recipe.schema import ScheduleConfig


def step_decay(epochs_done: int, *, milestones: Sequence[int], gamma: float = 0.1) -> float:
    """Multiply by ``gamma`` at every milestone that has been reached.

    Args:
        epochs_done: finished epochs; with ``milestones=[150]`` epoch 151 is the first with a lower rate.
        milestones: numbers of finished epochs, increasing.
        gamma: factor at each milestone, above 0.
    """
    return gamma ** bisect.bisect_right(milestones, epochs_done)


def cosine(progress: float, *, floor: float = 0.0) -> float:
    r"""Fall from 1 to ``floor`` along half a cosine, :math:`f + (1 - f)\,(1 + \cos \pi p) / 2`.

    Args:
        progress: p, from 0 (start) to 1 (end).
        floor: f, the factor at the end, in [0, 1].

    Reference: I. Loshchilov and F. Hutter, SGDR: Stochastic Gradient Descent with Warm Restarts, ICLR 2017,
    https://arxiv.org/abs/1608.03983, eq. 5, without restarts.
    """
    return floor + (1.0 - floor) * 0.5 * (1.0 + math.cos(math.pi * progress))


def one_cycle(progress: float, *, peak: float = 0.3, start: float = 0.04, floor: float = 0.0) -> float:
    """Rise from ``start`` to 1 and fall to ``floor``, each along half a cosine.

    Momentum is not cycled.

    Args:
        progress: from 0 to 1.
        peak: progress at which the factor is 1, in (0, 1).
        start: factor at the start (0.04 is 1/25, the usual choice).
        floor: factor at the end (PyTorch ends at 4e-6 instead of 0, which makes no practical difference).

    Reference: L. Smith and N. Topin, Super-Convergence: Very Fast Training of Neural Networks Using Large
    Learning Rates, 2019, https://arxiv.org/abs/1708.07120; the cosine form is PyTorch's ``OneCycleLR``.
    """
    if progress < peak:
        return 1.0 + (start - 1.0) * 0.5 * (1.0 + math.cos(math.pi * progress / peak))
    return cosine((progress - peak) / (1.0 - peak), floor=floor)


def warm_up(progress: float, *, start: float = 0.01) -> float:
    """Rise linearly from ``start`` to 1 while ``progress`` goes from 0 to 1."""
    return start + (1.0 - start) * progress


def learning_rate_factor(schedule: ScheduleConfig, *, step: int, steps_per_epoch: int, epochs: int) -> float:
    """Learning-rate factor of one step of a stage.

    ``step`` decay changes at epoch ends only; ``cosine``, ``one-cycle`` and the warm-up change at every step.
    The warm-up takes the first ``warmup_epochs`` of the stage; a cosine starts after it, while milestones
    count from the start of the stage.

    Args:
        schedule: section of a recipe.
        step: finished steps of the stage, from 0.
        steps_per_epoch: at least 1.
        epochs: length of the stage, at least 1.

    Returns:
        Factor of the base learning rate, at least 0.
    """
    epochs_done = step / steps_per_epoch
    if epochs_done < schedule.warmup_epochs:
        return warm_up(epochs_done / schedule.warmup_epochs, start=schedule.warmup_start)
    if schedule.kind == "step":
        return step_decay(step // steps_per_epoch, milestones=schedule.milestones, gamma=schedule.gamma)
    if schedule.kind == "one-cycle":
        return one_cycle(epochs_done / epochs, peak=schedule.peak, start=schedule.start, floor=schedule.floor)
    if schedule.kind == "cosine":
        length = max(epochs - schedule.warmup_epochs, 1)
        return cosine((epochs_done - schedule.warmup_epochs) / length, floor=schedule.floor)
    return 1.0
