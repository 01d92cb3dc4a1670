"""Mean squared canonical correlation, R2CCA (Kornblith et al., 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pursuhint.similarity.checks import centred_pair
from pursuhint.similarity.metric import Metric
from pursuhint.similarity.moments import LayerMoments

__all__ = ["R2CCA", "R2CCA_RANK", "r2cca", "r2cca_matrix", "r2cca_rank", "r2cca_rank_matrix"]

RELATIVE_EIGENVALUE = 1e-10
"""A direction counts towards the rank when its eigenvalue exceeds this fraction of the largest one (and the
noise floor), which is a singular value of 1e-5 of the largest."""


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
    shared, _ = _shared_variance(x, y)
    return shared / min(x.shape[1], y.shape[1])


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
    shared, rank = _shared_variance(x, y)
    return shared / rank


def _shared_variance(x: Tensor, y: Tensor) -> tuple[Tensor, int]:
    """Sum of squared canonical correlations, and the smaller rank; (NaN, 1) when a side has none."""
    matrices, floors = centred_pair(x, y)
    bases = [_basis(matrix, floor) for matrix, floor in zip(matrices, floors)]
    rank = min(basis.shape[1] for basis in bases)
    if rank == 0:
        return torch.full((), math.nan, dtype=torch.float64, device=x.device), 1
    return (bases[0].T @ bases[1]).square().sum(), rank


def _basis(centred: Tensor, floor: float) -> Tensor:
    """Orthonormal basis of the column space, (samples, rank)."""
    # From the matrix itself, not from its Gram matrix: squaring would double the digits that
    # ill-conditioned features cost.
    left, singular, _ = torch.linalg.svd(centred, full_matrices=False)
    return left[:, _kept(singular.square(), floor)]


def _kept(eigenvalues: Tensor, floor: float) -> Tensor:
    """Which eigenvalues count towards the rank."""
    return eigenvalues > max(RELATIVE_EIGENVALUE * float(eigenvalues.max()), floor)


def r2cca_matrix(moments: LayerMoments) -> Tensor:
    """Mean squared canonical correlation of all pairs of layers; see `r2cca`.

    Args:
        moments: of at least two samples.

    Returns:
        (layers, layers), float64, symmetric; the diagonal is rank over width. NaN in the rows and columns of
        layers without variance.

    Raises:
        PursuhintError: fewer than two samples.
    """
    shared, _ = moments.once(_shared_variances)
    widths = torch.tensor(moments.widths, dtype=torch.float64, device=shared.device)
    return shared / torch.minimum(widths[:, None], widths)


def r2cca_rank_matrix(moments: LayerMoments) -> Tensor:
    """Mean squared canonical correlation over existing directions, of all pairs; see `r2cca_rank`.

    Args:
        moments: of at least two samples.

    Returns:
        (layers, layers), float64, symmetric, diagonal 1; NaN in the rows and columns of layers without
        variance.

    Raises:
        PursuhintError: fewer than two samples.
    """
    shared, ranks = moments.once(_shared_variances)
    return shared / torch.minimum(ranks[:, None], ranks)


def _shared_variances(moments: LayerMoments) -> tuple[Tensor, Tensor]:
    r"""Sums of squared canonical correlations of all pairs (NaN where a rank is 0), and the ranks.

    With :math:`W_i` a whitening of layer i, :math:`W_i^\top C_{ii} W_i = I`, the canonical correlations of
    two layers are the singular values of :math:`W_i^\top C_{ij} W_j`. Each layer is whitened once; the
    joint scatter matrix is then multiplied by all whitenings from both sides, a layer at a time.
    """
    moments.require(2)
    whitenings = [_whitening(moments, i) for i in range(len(moments))]
    ranks = torch.tensor([w.shape[1] for w in whitenings], device=moments.device)
    layer_of_row = torch.arange(len(moments), device=moments.device).repeat_interleave(ranks)
    # One side first: C W, stored transposed, (all directions, P).
    half = torch.cat([w.T @ moments.rows(i) for i, w in enumerate(whitenings)])
    shared = torch.zeros(len(moments), len(moments), dtype=half.dtype, device=half.device)
    for i, (w, block) in enumerate(zip(whitenings, moments.blocks)):
        shared[i].index_add_(0, layer_of_row, (half[:, block] @ w).square_().sum(1))
    shared = (shared + shared.T) / 2
    shared[ranks == 0, :] = math.nan
    shared[:, ranks == 0] = math.nan
    return shared, ranks.to(shared)


def _whitening(moments: LayerMoments, i: int) -> Tensor:
    """(width, rank) matrix that makes the features of layer ``i`` uncorrelated, each of sum of squares 1."""
    eigenvalues, vectors = torch.linalg.eigh(moments.cross(i, i))
    kept = _kept(eigenvalues, moments.noise_floor(i))
    return vectors[:, kept] / eigenvalues[kept].sqrt()


R2CCA = Metric("r2cca", "R²CCA", r2cca, r2cca_matrix, for_clustering="r2cca-rank")
R2CCA_RANK = Metric("r2cca-rank", "R²CCA by rank", r2cca_rank, r2cca_rank_matrix, for_clustering="r2cca-rank")
