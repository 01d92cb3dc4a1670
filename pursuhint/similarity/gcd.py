"""Yanai's generalised coefficient of determination (Yanai, 1974)."""

from __future__ import annotations

import torch
from torch import Tensor

from pursuhint.similarity.accumulators.base import LayerStatistics
from pursuhint.similarity.accumulators.shards import MomentShards
from pursuhint.similarity.canonical import ranks_of, shared_variance, shared_variances
from pursuhint.similarity.metric import Metric
from pursuhint.similarity.subsampled import shared_variances_on_subsamples

__all__ = ["GCD", "yanai_gcd", "yanai_gcd_matrix"]


def yanai_gcd(x: Tensor, y: Tensor) -> Tensor:
    r"""Yanai's generalised coefficient of determination of two representation matrices.

    With :math:`Q_X, Q_Y` orthonormal bases of the column spaces of the centred matrices, of ranks
    :math:`r_X, r_Y`,

    .. math:: \mathrm{GCD} = \frac{\lVert Q_X^\top Q_Y \rVert_F^2}{\sqrt{r_X r_Y}} ,

    the cosine of the angle between the two projections :math:`Q Q^\top`, or linear CKA of the bases without
    centring. Ignores every invertible linear map of the features of either side. Where
    `pursuhint.similarity.r2cca_rank` is 1 as soon as the smaller space lies in the larger, this is 1
    only when both spaces are the same. Ranks are decided as there.

    Reference: H. Yanai, Unification of various techniques of multivariate analysis by means of generalized
    coefficient of determination, Journal of Behaviormetrics 1, 1974; J. O. Ramsay, J. ten Berge and G. P. H.
    Styan, Matrix correlation, Psychometrika 49, 1984.

    Args:
        x: shape (samples, features), any floating-point type; computed in float64.
        y: shape (samples, other features).

    Returns:
        Float64 scalar in [0, 1]; NaN (0/0) when a side has no variance beyond the rounding of its type.

    Raises:
        PursuhintError: a shape or type is wrong, a value is not finite, the numbers of samples differ, or
            there are fewer than two samples.

    Example:
        >>> x = torch.randn(100, 8)
        >>> round(float(yanai_gcd(x, x @ torch.randn(8, 8))), 3), round(float(yanai_gcd(x, x[:, :2])), 3)
        (1.0, 0.5)
    """
    shared, rank_x, rank_y = shared_variance(x, y)
    return shared / max(1, rank_x * rank_y) ** 0.5


def yanai_gcd_matrix(layers: LayerStatistics) -> Tensor:
    """Yanai's coefficient of all pairs of layers; see `yanai_gcd`.

    Args:
        layers: statistics of at least two samples.

    Returns:
        (layers, layers), float64, symmetric, diagonal 1; NaN in the rows and columns of layers without
        variance.

    Raises:
        PursuhintError: fewer than two samples.
    """
    ranks = ranks_of(layers)
    return layers.over_strips(shared_variances) / torch.outer(ranks, ranks).sqrt()


def yanai_gcd_on_subsamples(shards: MomentShards, subsamples: Tensor) -> Tensor:
    """`yanai_gcd_matrix` of several subsamples, (subsamples, layers, layers).

    Args:
        shards: moments of the shards.
        subsamples: which shards belong to each subsample, (subsamples, shards); at least two samples in each.
    """
    shared, ranks = shared_variances_on_subsamples(shards, subsamples)
    return shared / (ranks[:, :, None] * ranks[:, None, :]).sqrt()


GCD = Metric(
    "gcd",
    "Yanai's GCD",
    yanai_gcd,
    yanai_gcd_matrix,
    strips=(shared_variances,),
    samples_per_feature=2,
    on_subsamples=yanai_gcd_on_subsamples,
)
