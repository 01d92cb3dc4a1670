"""What a difference would be with other seeds and other test images: a two-way random-effects interval."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from pursuhint.errors import PursuhintError
from pursuhint.study.bounds import check_fraction

__all__ = ["TwoWayInterval", "two_way_interval"]


@dataclass(frozen=True)
class TwoWayInterval:
    """An interval for a mean difference over new seeds and new images.

    Attributes:
        low: its lower end, in the unit of the differences.
        high: its upper end.
        error: standard error of the mean difference.
        freedom: its degrees of freedom after Satterthwaite.
        images: number of images.
        seed_std: standard deviation of the effect of a seed on all images; 0 where none was seen.
        image_std: standard deviation of the effect of an image in all seeds; 0 where none was seen.
        residual_std: standard deviation of what neither explains.
    """

    low: float
    high: float
    error: float
    freedom: float
    images: int
    seed_std: float
    image_std: float
    residual_std: float


def two_way_interval(differences: ArrayLike, *, confidence: float = 0.95) -> TwoWayInterval | None:
    r"""Interval of a mean difference that holds for new seeds and new images.

    The paired t interval over seeds is about *these* test images: it cannot know that others would have given
    another difference. Here the difference of image :math:`j` in seed :math:`i` is
    :math:`d_{ij} = \mu + s_i + g_j + e_{ij}` with independent random effects of seed, image and both. With
    :math:`n` seeds, :math:`m` images and the mean squares of this crossed design without replication,

    .. math::
        M_s = \frac{m \sum_i (\bar d_i - \bar d)^2}{n - 1}, \quad
        M_g = \frac{n \sum_j (\bar d_j - \bar d)^2}{m - 1}, \quad
        M_e = \frac{\sum_{ij} (d_{ij} - \bar d_i - \bar d_j + \bar d)^2}{(n - 1)(m - 1)},

    the variance of the mean is :math:`\sigma_s^2 / n + \sigma_g^2 / m + \sigma_e^2 / (n m)`, estimated by
    :math:`(M_s' + M_g' - M_e) / (n m)`, where :math:`M' = \max(M, M_e)` keeps a variance from being negative
    (Searle, Casella and McCulloch, 1992, *Variance components*, chapter 4). Its degrees of freedom are
    Satterthwaite's (1946, Biometrics Bulletin 2),
    :math:`(M_s' + M_g' - M_e)^2 / (M_s'^2 / (n - 1) + M_g'^2 / (m - 1) + M_e^2 / ((n - 1)(m - 1)))`. More
    degrees of freedom can outweigh a little more variance, so the interval is at least as wide as the paired
    t interval over seeds.

    Args:
        differences: arm minus control, (seeds, images); for hits in percentage points 100, 0 or -100.
        confidence: of the interval, in (0, 1).

    Returns:
        The interval; None with fewer than 3 seeds or 2 images, or where all differences are equal.

    Raises:
        PursuhintError: the differences are no finite matrix, or ``confidence`` is out of range.
    """
    check_fraction("confidence", confidence)
    values = np.asarray(differences, dtype=float)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise PursuhintError(
            f"differences by image must be a finite matrix of seeds x images, got shape {values.shape}"
        )
    seeds, images = values.shape
    if seeds < 3 or images < 2 or np.ptp(values) == 0:
        return None
    mean, by_seed, by_image = values.mean(), values.mean(axis=1), values.mean(axis=0)
    rest = values - by_seed[:, None] - by_image[None, :] + mean
    of_rest = float((rest**2).sum()) / ((seeds - 1) * (images - 1))
    of_seeds = max(images * float(((by_seed - mean) ** 2).sum()) / (seeds - 1), of_rest)
    of_images = max(seeds * float(((by_image - mean) ** 2).sum()) / (images - 1), of_rest)
    total = of_seeds + of_images - of_rest
    uncertain = (
        of_seeds**2 / (seeds - 1) + of_images**2 / (images - 1) + of_rest**2 / ((seeds - 1) * (images - 1))
    )
    error, freedom = math.sqrt(total / (seeds * images)), total**2 / uncertain
    level = (1 + confidence) / 2
    over_seeds = stats.t.ppf(level, seeds - 1) * by_seed.std(ddof=1) / math.sqrt(seeds)
    half = float(max(stats.t.ppf(level, freedom) * error, over_seeds))
    return TwoWayInterval(
        low=float(mean) - half,
        high=float(mean) + half,
        error=error,
        freedom=freedom,
        images=images,
        seed_std=math.sqrt((of_seeds - of_rest) / images),
        image_std=math.sqrt((of_images - of_rest) / seeds),
        residual_std=math.sqrt(of_rest),
    )
