"""Mean squared canonical correlation, R2CCA (Kornblith et al., 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from pursuhint.similarity.accumulators.base import LayerStatistics
from pursuhint.similarity.accumulators.shards import MomentShards
from pursuhint.similarity.canonical import ranks_of, shared_variance, shared_variances
from pursuhint.similarity.metric import Metric
from pursuhint.similarity.subsampled import shared_variances_on_subsamples

__all__ = ["R2CCA", "R2CCA_RANK", "r2cca", "r2cca_matrix", "r2cca_rank", "r2cca_rank_matrix"]


def r2cca(x: Tensor, y: Tensor) -> Tensor:
    r"""Mean squared canonical correlation of two representation matrices.

    With :math:`Q_X, Q_Y` orthonormal bases of the column spaces of the centred matrices, of ranks
    :math:`r_X, r_Y`, and :math:`p_X, p_Y` their numbers of columns,

    .. math:: R^2_{CCA} = \frac{\lVert Q_X^\top Q_Y \rVert_F^2}{\min(p_X, p_Y)} .

    Ignores every invertible linear map of the features of either side. A rank-deficient layer (dead or
    dependent channels, fewer samples than channels) has a similarity below 1 with itself, rank over width;
    `r2cca_rank` divides by the ranks instead. With as many independent features as samples everything is
    perfectly correlated with everything: use several times more samples than channels.

    The rank counts the eigenvalues of :math:`X_c^\top X_c` above :math:`10^{-10}` times the largest and
    above what rounding of the features explains (`pursuhint.similarity.checks.noise_floor`).

    Reference: S. Kornblith, M. Norouzi, H. Lee and G. Hinton, Similarity of Neural Network Representations
    Revisited, ICML 2019, https://arxiv.org/abs/1905.00414, table 1; equation 3 of PURSUhInT.

    Args:
        x: shape (samples, features), any floating-point type; computed in float64.
        y: shape (samples, other features).

    Returns:
        Float64 scalar in [0, 1]; NaN when a side has no variance beyond the rounding of its type.

    Raises:
        PursuhintError: a shape or type is wrong, a value is not finite, the numbers of samples differ, or
            there are fewer than two samples.

    Example:
        >>> x = torch.randn(100, 8)
        >>> round(float(r2cca(x, x @ torch.randn(8, 8) + 1)), 3)
        1.0
    """
    shared, _, _ = shared_variance(x, y)
    return shared / min(len(x[0]), len(y[0]))


def r2cca_rank(x: Tensor, y: Tensor) -> Tensor:
    r"""Mean squared canonical correlation over the directions that exist.

    As `r2cca`, with the smaller *rank* in the denominator:

    .. math:: \frac{\lVert Q_X^\top Q_Y \rVert_F^2}{\min(r_X, r_Y)} .

    Equal to `r2cca` when both have full rank, and 1 for a layer with itself always, which clustering needs.

    Args:
        x: shape (samples, features), any floating-point type; computed in float64.
        y: shape (samples, other features).

    Returns:
        Float64 scalar in [0, 1]; NaN when a side has no variance beyond the rounding of its type.

    Raises:
        PursuhintError: as `r2cca`.
    """
    shared, rank_x, rank_y = shared_variance(x, y)
    return shared / max(1, min(rank_x, rank_y))


def r2cca_matrix(layers: LayerStatistics) -> Tensor:
    """Mean squared canonical correlation of all pairs of layers; see `r2cca`.

    Args:
        layers: statistics of at least two samples.

    Returns:
        (layers, layers), float64, symmetric; the diagonal is rank over width. NaN in the rows and columns of
        layers without variance.

    Raises:
        PursuhintError: fewer than two samples.
    """
    widths = torch.tensor(layers.widths, dtype=torch.float64, device=layers.device)
    return layers.over_strips(shared_variances) / torch.minimum(widths[:, None], widths)


def r2cca_rank_matrix(layers: LayerStatistics) -> Tensor:
    """Mean squared canonical correlation over existing directions, of all pairs; see `r2cca_rank`.

    Args:
        layers: statistics of at least two samples.

    Returns:
        (layers, layers), float64, symmetric, diagonal 1; NaN in the rows and columns of layers without
        variance.

    Raises:
        PursuhintError: fewer than two samples.
    """
    shared, ranks = layers.over_strips(shared_variances), ranks_of(layers)
    return shared / torch.minimum(ranks[:, None], ranks)


def r2cca_on_subsamples(shards: MomentShards, subsamples: Tensor) -> Tensor:
    """`r2cca_matrix` of several subsamples, (subsamples, layers, layers).

    Args:
        shards: moments of the shards.
        subsamples: which shards belong to each subsample, (subsamples, shards); at least two samples in each.
    """
    shared, _ = shared_variances_on_subsamples(shards, subsamples)
    widths = shared.new_tensor(shards.moments.widths)
    return shared / torch.minimum(widths[:, None], widths)


def r2cca_rank_on_subsamples(shards: MomentShards, subsamples: Tensor) -> Tensor:
    """`r2cca_rank_matrix` of several subsamples, (subsamples, layers, layers).

    Args:
        shards: moments of the shards.
        subsamples: which shards belong to each subsample, (subsamples, shards); at least two samples in each.
    """
    shared, ranks = shared_variances_on_subsamples(shards, subsamples)
    return shared / torch.minimum(ranks[:, :, None], ranks[:, None, :])


R2CCA = Metric(
    "r2cca",
    "R²CCA",
    r2cca,
    r2cca_matrix,
    strips=(shared_variances,),
    samples_per_feature=2,
    on_subsamples=r2cca_on_subsamples,
)
R2CCA_RANK = Metric(
    "r2cca-rank",
    "R²CCA by rank",
    r2cca_rank,
    r2cca_rank_matrix,
    strips=(shared_variances,),
    samples_per_feature=2,
    on_subsamples=r2cca_rank_on_subsamples,
)
