"""The angular Procrustes distance, a metric in the mathematical sense, and its similarity."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pursuhint.similarity.accumulators.base import LayerStatistics
from pursuhint.similarity.metric import Metric, masked
from pursuhint.similarity.procrustes import nuclear_norms, procrustes_similarity

__all__ = [
    "ANGULAR_PROCRUSTES",
    "angular_procrustes_distance",
    "angular_procrustes_matrix",
    "angular_procrustes_similarity",
]

ROUNDING = 1e-14
"""Cosines that are nearer to 1 than this are 1: what is left is rounding, which the arc cosine would scale up
to 1e-7."""


def angular_procrustes_distance(x: Tensor, y: Tensor) -> Tensor:
    r"""Angle between one representation matrix and the best rotation of the other.

    .. math:: \theta = \arccos \frac{\lVert X^\top Y \rVert_*}{\lVert X \rVert_F \, \lVert Y \rVert_F}

    of centred matrices, the arc cosine of `procrustes_similarity`. It satisfies the triangle inequality, so
    methods for metric spaces (k-medoids, nearest neighbours) may use it. Accurate to about 1e-7 near 0.

    Reference: A. H. Williams, E. Kunz, S. Kornblith and S. W. Linderman, Generalized Shape Metrics on Neural
    Representations, NeurIPS 2021, https://arxiv.org/abs/2110.14739, equation 4.

    Args:
        x: shape (samples, features), any floating-point type; computed in float64.
        y: shape (samples, other features).

    Returns:
        Float64 scalar in [0, pi / 2], in radians; NaN when a side has no variance beyond the rounding of its
        type.

    Raises:
        PursuhintError: a shape or type is wrong, a value is not finite, the numbers of samples differ, or
            there are fewer than two samples.
    """
    return _angle(procrustes_similarity(x, y))


def angular_procrustes_similarity(x: Tensor, y: Tensor) -> Tensor:
    r"""One minus the angular Procrustes distance as a share of a right angle, :math:`1 - 2 \theta / \pi`.

    Args:
        x: shape (samples, features), any floating-point type; computed in float64.
        y: shape (samples, other features).

    Returns:
        Float64 scalar in [0, 1]; NaN when a side has no variance beyond the rounding of its type.

    Raises:
        PursuhintError: as `angular_procrustes_distance`.

    Example:
        >>> x = torch.randn(100, 8)
        >>> round(float(angular_procrustes_similarity(x, x.flip(1))), 6)
        1.0
    """
    return _similarity(procrustes_similarity(x, y))


def _angle(cosine: Tensor) -> Tensor:
    return torch.where(cosine > 1 - ROUNDING, 1.0, cosine).clamp_min(0).arccos()


def _similarity(cosine: Tensor) -> Tensor:
    return 1 - _angle(cosine) * (2 / math.pi)


def angular_procrustes_matrix(layers: LayerStatistics) -> Tensor:
    """Angular Procrustes similarity of all pairs of layers; see `angular_procrustes_similarity`.

    Args:
        layers: statistics of at least two samples.

    Returns:
        (layers, layers), float64, symmetric, diagonal 1; NaN in the rows and columns of layers without
        variance. One minus it satisfies the triangle inequality.

    Raises:
        PursuhintError: fewer than two samples.
    """
    return masked(_similarity(layers.over_strips(nuclear_norms)), layers)


ANGULAR_PROCRUSTES = Metric(
    "angular-procrustes",
    "angular Procrustes",
    angular_procrustes_similarity,
    angular_procrustes_matrix,
    strips=(nuclear_norms,),
)
