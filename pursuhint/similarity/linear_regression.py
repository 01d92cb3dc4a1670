"""How much of one layer a linear map from another layer explains."""

from __future__ import annotations

import torch
from torch import Tensor

from pursuhint.similarity.accumulators.base import LayerStatistics, Strip
from pursuhint.similarity.canonical import spans
from pursuhint.similarity.metric import Metric, undefined

__all__ = ["LINEAR_R2", "linear_r2", "linear_r2_matrix"]


def linear_r2(x: Tensor, y: Tensor) -> Tensor:
    r"""Share of the variance of x that linear regression on the features of y explains.

    With :math:`Q_Y` an orthonormal basis of the column space of the centred y,

    .. math:: R^2 = \frac{\lVert Q_Y^\top X \rVert_F^2}{\lVert X \rVert_F^2} .

    Not symmetric: for x a point of the teacher and y one of the student, it says how much of the teacher's
    features a linear connector can express. Ignores every invertible linear map of the features of y, and
    rotation, reflection and one common scale of those of x. Ranks are decided as in
    `pursuhint.similarity.r2cca`. As many independent features of y as samples explain everything: use
    several times more samples than features.

    Reference: S. Kornblith, M. Norouzi, H. Lee and G. Hinton, Similarity of Neural Network Representations
    Revisited, ICML 2019, https://arxiv.org/abs/1905.00414, section 4 ("linear regression").

    Args:
        x: shape (samples, features), what is to be explained; any floating-point type, computed in float64.
        y: shape (samples, other features), what it is explained with.

    Returns:
        Float64 scalar in [0, 1]; NaN (0/0) when a side has no variance beyond the rounding of its type.

    Raises:
        PursuhintError: a shape or type is wrong, a value is not finite, the numbers of samples differ, or
            there are fewer than two samples.

    Example:
        >>> x = torch.randn(100, 8)
        >>> round(float(linear_r2(x[:, :2], x)), 6)
        1.0
    """
    first, second = spans(x, y)
    if min(first.rank, second.rank) == 0:
        return undefined(first.left)
    energies = first.energies[: first.rank]
    return _share((first.left.T @ second.left).square().sum(1), energies)


def _share(explained: Tensor, energies: Tensor) -> Tensor:
    """Share of the variance explained, from that of each direction and their energies."""
    return explained @ energies / energies.sum()


def linear_r2_matrix(layers: LayerStatistics) -> Tensor:
    """Linear R² of all pairs of layers; see `linear_r2`.

    Args:
        layers: statistics of at least two samples.

    Returns:
        (layers, layers), float64, not symmetric: entry (i, j) is the share of layer i that layer j explains.
        Diagonal 1. NaN in the rows and columns of layers without variance.

    Raises:
        PursuhintError: fewer than two samples.
    """
    return layers.over_strips(_both_ways)


def _both_ways(strip: Strip) -> Tensor:
    layers = strip.layers
    values = torch.full((2, len(layers) - strip.i), torch.nan, dtype=torch.float64, device=layers.device)
    for j, coupling in strip.couplings():
        if coupling.numel():
            squares = coupling.square()
            values[0, j - strip.i] = _share(squares.sum(1), layers.basis(strip.i).scales.square())
            values[1, j - strip.i] = _share(squares.sum(0), layers.basis(j).scales.square())
    return values


LINEAR_R2 = Metric(
    "linear-r2",
    "linear R²",
    linear_r2,
    linear_r2_matrix,
    strips=(_both_ways,),
    symmetric=False,
    samples_per_feature=2,
)
