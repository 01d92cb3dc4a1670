"""Projection-weighted canonical correlation analysis, PWCCA (Morcos et al., 2018)."""

from __future__ import annotations

import torch
from torch import Tensor

from pursuhint.similarity.accumulators.base import LayerStatistics, Strip
from pursuhint.similarity.canonical import spans
from pursuhint.similarity.metric import Metric, undefined

__all__ = ["PWCCA", "pwcca", "pwcca_matrix"]

TIE = 1e-6
"""Neighbouring canonical correlations that differ by less count as equal."""


def pwcca(x: Tensor, y: Tensor) -> Tensor:
    r"""Mean canonical correlation, each weighted by how much of the features of x its direction carries.

    With orthonormal bases :math:`Q_X, Q_Y` of the column spaces of the centred matrices, the thin SVD
    :math:`Q_X^\top Q_Y = A \, \mathrm{diag}(\rho) \, B^\top`, canonical directions :math:`h_a`, the columns
    of :math:`Q_X A`, and :math:`x_c` the features (columns) of x,

    .. math:: \mathrm{PWCCA} = \frac{\sum_a \alpha_a \rho_a}{\sum_a \alpha_a},
        \qquad \alpha_a = \sum_c \lvert h_a^\top x_c \rvert .

    Not symmetric: the weights are those of x. Ignores every invertible linear map of the features of y, and
    one common scale of those of x. Ranks are decided as in `pursuhint.similarity.r2cca`.

    Where canonical correlations are equal (within 1e-6) the paper's weights depend on which of many bases
    the SVD happens to return. Here these directions are turned to the principal axes of x among them, so
    that the value is the same everywhere. Correlations of zero are such a case already when there is one, if
    x has the higher rank: all that is uncorrelated with y is then open to choice, and its largest principal
    axes are taken. Equal correlations are the rule when there are fewer samples than both ranks together,
    and no CCA means much then.

    Reference: A. S. Morcos, M. Raghu and S. Bengio, Insights on representational similarity in neural
    networks with canonical correlation, NeurIPS 2018, https://arxiv.org/abs/1806.05759, equation 2.

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
        >>> round(float(pwcca(x, x @ torch.randn(8, 8))), 6)
        1.0
    """
    first, second = spans(x, y)
    if min(first.rank, second.rank) == 0:
        return undefined(x)
    axes, correlations, _ = torch.linalg.svd(first.left.T @ second.left, full_matrices=False)
    return _weighted(axes, correlations, first.left.T @ first.centered)


def _weighted(axes: Tensor, correlations: Tensor, loadings: Tensor) -> Tensor:
    """The weighted mean.

    Args:
        axes: (rank, correlations), coefficients of the canonical directions in a basis of x.
        correlations: largest first.
        loadings: (rank, features), x in that basis.
    """
    if bool((correlations.diff() > -TIE).any()) or _open(axes, correlations):
        axes = _untied(axes, correlations, loadings)
    weights = (axes.T @ loadings).abs().sum(1)
    return (weights @ correlations) / weights.sum()


def _open(axes: Tensor, correlations: Tensor) -> bool:
    """Whether x has directions uncorrelated with y beyond the canonical ones."""
    return axes.shape[0] > axes.shape[1] and float(correlations[-1]) < TIE


def _untied(axes: Tensor, correlations: Tensor, loadings: Tensor) -> Tensor:
    """Rotate the axes of equal correlations to the principal axes of x among them; see `_weighted`."""
    axes = axes.clone()
    ends = [*((correlations.diff() <= -TIE).nonzero().flatten() + 1).tolist(), len(correlations)]
    start = 0
    for end in ends:
        tied = axes[:, start:end]
        if end == len(correlations) and _open(axes, correlations):
            # Everything orthogonal to the correlated axes is uncorrelated with y: choose among all of it.
            tied = torch.linalg.qr(axes[:, :start], mode="complete").Q[:, start:]
        if tied.shape[1] > 1:
            projected = tied.T @ loadings
            # eigh sorts in ascending order of variance: the last columns are the largest principal axes.
            turned = tied @ torch.linalg.eigh(projected @ projected.T).eigenvectors
            axes[:, start:end] = turned[:, start - end :]
        start = end
    return axes


def _weighted_both_ways(strip: Strip) -> Tensor:
    layers = strip.layers
    values = torch.full((2, len(layers) - strip.i), torch.nan, dtype=torch.float64, device=layers.device)
    for j, coupling in strip.couplings():
        if coupling.numel():
            axes, correlations, others = torch.linalg.svd(coupling, full_matrices=False)
            values[0, j - strip.i] = _weighted(axes, correlations, layers.loadings(strip.i))
            values[1, j - strip.i] = _weighted(others.T, correlations, layers.loadings(j))
    return values


def pwcca_matrix(layers: LayerStatistics) -> Tensor:
    """PWCCA of all pairs of layers; see `pwcca`.

    Args:
        layers: statistics of at least two samples.

    Returns:
        (layers, layers), float64, not symmetric: entry (i, j) is weighted by layer i. Diagonal 1. NaN in the
        rows and columns of layers without variance.

    Raises:
        PursuhintError: fewer than two samples.
    """
    return layers.over_strips(_weighted_both_ways)


PWCCA = Metric(
    "pwcca",
    "PWCCA",
    pwcca,
    pwcca_matrix,
    strips=(_weighted_both_ways,),
    symmetric=False,
    samples_per_feature=2,
)
