"""Debiased linear centred kernel alignment, with Song's unbiased HSIC."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from pursuhint.errors import PursuhintError
from pursuhint.similarity.accumulators.base import LayerStatistics
from pursuhint.similarity.checks import centered_pair
from pursuhint.similarity.cka import scaled_squared_norms, squared_norm
from pursuhint.similarity.metric import Metric, masked, undefined
from pursuhint.similarity.subsampled import debiased_cka_on_subsamples

__all__ = ["DEBIASED_CKA", "debiased_cka", "debiased_cka_matrix"]

SMALLEST = 1e-12
"""An unbiased HSIC of a layer with itself below this fraction of the biased one is rounding error."""


def debiased_cka(x: Tensor, y: Tensor) -> Tensor:
    r"""Linear CKA of two representation matrices from unbiased estimates of HSIC.

    With :math:`K = X X^\top` of the centred matrix, :math:`L` that of y, both with their diagonal set to
    zero, and n samples,

    .. math:: \mathrm{HSIC}_1(K, L) = \frac{1}{n(n-3)} \left[ \mathrm{tr}(K L)
        + \frac{\mathbf 1^\top K \mathbf 1 \; \mathbf 1^\top L \mathbf 1}{(n-1)(n-2)}
        - \frac{2}{n-2} \mathbf 1^\top K L \mathbf 1 \right]

    .. math:: \mathrm{CKA}_1 = \frac{\mathrm{HSIC}_1(K, L)}
        {\sqrt{\mathrm{HSIC}_1(K, K) \, \mathrm{HSIC}_1(L, L)}} .

    Estimated from all samples; the mean over small batches is another estimator. Invariances are those of
    `pursuhint.similarity.linear_cka`. Unlike linear CKA, it is near zero for independent features also with
    few samples, and can be negative.

    No kernel matrix is needed. With :math:`d_n, e_n` the squared norms of the rows of the two centred
    matrices, the bracket is :math:`\lVert X^\top Y \rVert_F^2 - \frac{n}{n-2} d^\top e
    + \frac{\lVert X \rVert_F^2 \lVert Y \rVert_F^2}{(n-1)(n-2)}`.

    Reference: L. Song, A. Smola, A. Gretton, J. Bedo and K. Borgwardt, Feature Selection via Dependence
    Maximization, JMLR 13, 2012, equation 5; T. Nguyen, M. Raghu and S. Kornblith, Do Wide and Deep Networks
    Learn the Same Things?, ICLR 2021, https://arxiv.org/abs/2010.15327, section 3.

    Args:
        x: shape (samples, features), at least 4 samples, any floating-point type; computed in float64.
        y: shape (samples, other features).

    Returns:
        Float64 scalar in [-1, 1]. NaN (0/0) when a side has no variance beyond the rounding of its type, or
        varies in a way that the unbiased estimate does not see, such as a feature that differs in one sample
        only.

    Raises:
        PursuhintError: a shape or type is wrong, a value is not finite, the numbers of samples differ, or
            there are fewer than four samples.

    Example:
        >>> x = torch.randn(100, 8)
        >>> round(float(debiased_cka(x, -3 * x)), 6)
        1.0
    """
    (x, y), (floor_x, floor_y) = centered_pair(x, y)
    _check_count(len(x))
    own_x, own_y = squared_norm(x, x), squared_norm(y, y)
    if own_x.sqrt() <= floor_x or own_y.sqrt() <= floor_y:
        return undefined(x)
    # Scaled to a squared norm of about 1 first, so that squaring once more stays inside the range of float64.
    x, y = x / own_x**0.25, y / own_y**0.25
    first, second = _dependence(x, x), _dependence(y, y)
    if min(first, second) <= SMALLEST:
        return undefined(x)
    return _dependence(x, y) / (first * second).sqrt()


def _dependence(x: Tensor, y: Tensor) -> Tensor:
    """n (n - 3) times the unbiased HSIC of centered features."""
    # The factor cancels in CKA. With the diagonals removed, tr(K L) loses d'e and 1'K L 1 becomes d'e, as
    # rows of centered kernels sum to zero: together -n / (n - 2) d'e.
    n = len(x)
    rows_x, rows_y = x.square().sum(1), y.square().sum(1)
    return (
        squared_norm(x, y)
        - n / (n - 2) * (rows_x @ rows_y)
        + rows_x.sum() * rows_y.sum() / ((n - 1) * (n - 2))
    )


def _check_count(samples: int) -> None:
    if samples < 4:
        raise PursuhintError(f"debiased CKA needs at least 4 samples, got {samples}")


def debiased_cka_matrix(layers: LayerStatistics) -> Tensor:
    """Debiased linear CKA of all pairs of layers; see `debiased_cka`.

    Args:
        layers: statistics of at least four samples.

    Returns:
        (layers, layers), float64, symmetric, diagonal 1; NaN in the rows and columns of layers where a layer
        with itself is 0/0.

    Raises:
        PursuhintError: fewer than four samples.
    """
    layers.require(2)
    _check_count(layers.count)
    n = layers.count
    scales = torch.stack([layers.variation(i) for i in range(len(layers))])
    spreads = torch.stack([layers.spread(i) for i in range(len(layers))]) / scales
    rows = layers.row_norm_products() / scales / scales[:, None]
    dependence = (
        layers.over_strips(scaled_squared_norms)
        - n / (n - 2) * rows
        + torch.outer(spreads, spreads) / ((n - 1) * (n - 2))
    )
    dependence = (dependence + dependence.T) / 2  # the products of row norms are symmetric up to rounding
    own = dependence.diagonal()
    own = torch.where(own > SMALLEST, own, torch.nan).sqrt()
    return masked(dependence / torch.outer(own, own), layers)


DEBIASED_CKA = Metric(
    "debiased-cka",
    "debiased linear CKA",
    debiased_cka,
    debiased_cka_matrix,
    strips=(scaled_squared_norms,),
    samples=4,
    on_subsamples=partial(debiased_cka_on_subsamples, smallest=SMALLEST),
    many_subsamples=True,
)
