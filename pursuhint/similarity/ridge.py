"""Ridge-regularized CCA and the GULP distance (Boix-Adsera et al., 2022): between CCA and CKA."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pursuhint.errors import PursuhintError
from pursuhint.similarity.accumulators.base import LayerStatistics, Strip
from pursuhint.similarity.canonical import Span, spans
from pursuhint.similarity.metric import Metric, masked, undefined

__all__ = [
    "RIDGE_CCA",
    "gulp_distance",
    "gulp_distances",
    "ridge_cca",
    "ridge_cca_matrix",
    "ridge_cca_sweep",
]

RIDGE = 0.01
"""Default ridge, a share of the variance of a layer."""


def ridge_cca(x: Tensor, y: Tensor, *, ridge: float = RIDGE) -> Tensor:
    r"""Alignment of the predictions that ridge regression can make from two representation matrices.

    With covariances :math:`\Sigma` of the centred features, each side scaled so that
    :math:`\mathrm{tr}\,\Sigma = 1`, and :math:`S = (\Sigma + \lambda I)^{-1}`,

    .. math:: \frac{\mathrm{tr}(S_X \Sigma_{XY} S_Y \Sigma_{YX})}
        {\sqrt{\mathrm{tr}(\Sigma_X S_X \Sigma_X S_X) \; \mathrm{tr}(\Sigma_Y S_Y \Sigma_Y S_Y)}} ,

    which is linear CKA of features whose directions of variance v are weighted by :math:`v / (v + \lambda)`.
    Directions that carry much more than the share :math:`\lambda` of the variance count alike, as in CCA;
    those that carry much less count by their variance, as in CKA. The limits are Yanai's coefficient
    (`yanai_gcd`) for :math:`\lambda \to 0` and `linear_cka` for :math:`\lambda \to \infty`. Ignores
    rotation, reflection and one common scale of the features of either side.

    Reference: E. Boix-Adsera, H. Lawrence, G. Stepaniants and P. Rigollet, GULP: a prediction-based metric
    between representations, NeurIPS 2022, https://arxiv.org/abs/2210.06545, of which this is the cosine;
    `gulp_distance` is the distance.

    Args:
        x: shape (samples, features), any floating-point type; computed in float64.
        y: shape (samples, other features).
        ridge: :math:`\lambda`, a share of the variance of a layer; 0 or more.

    Returns:
        Float64 scalar in [0, 1]; NaN (0/0) when a side has no variance beyond the rounding of its type.

    Raises:
        PursuhintError: a shape or type is wrong, a value is not finite, the numbers of samples differ, there
            are fewer than two samples, or the ridge is negative.

    Example:
        >>> x = torch.randn(100, 8)
        >>> round(float(ridge_cca(x, -3 * x.flip(1))), 6)
        1.0
    """
    inner, own_x, own_y = _terms(x, y, ridge)
    return inner / (own_x * own_y).sqrt()


def gulp_distance(x: Tensor, y: Tensor, *, ridge: float = RIDGE) -> Tensor:
    r"""The GULP distance: how far apart the predictions from two representation matrices can be.

    .. math:: d^2 = \mathrm{tr}(\Sigma_X S_X \Sigma_X S_X) + \mathrm{tr}(\Sigma_Y S_Y \Sigma_Y S_Y)
        - 2 \, \mathrm{tr}(S_X \Sigma_{XY} S_Y \Sigma_{YX}) ,

    in the notation of `ridge_cca`. A distance between points of a Euclidean space, so means of layers exist.
    Accurate to about 1e-8: it is the root of a difference.

    Args:
        x: shape (samples, features), any floating-point type; computed in float64.
        y: shape (samples, other features).
        ridge: :math:`\lambda`, a share of the variance of a layer; 0 or more.

    Returns:
        Float64 scalar, at least 0; NaN when a side has no variance beyond the rounding of its type.

    Raises:
        PursuhintError: as `ridge_cca`.
    """
    inner, own_x, own_y = _terms(x, y, ridge)
    return (own_x + own_y - 2 * inner).clamp_min(0).sqrt()


def _terms(x: Tensor, y: Tensor, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    """The three traces; NaN when a side has no variance."""
    _check(ridge)
    first, second = spans(x, y)
    if min(first.rank, second.rank) == 0:
        return (undefined(first.left),) * 3
    filters = [_filter(_kept(span), span.energies.sum(), ridge) for span in (first, second)]
    squares = (first.left.T @ second.left).square()
    return filters[0] @ squares @ filters[1], filters[0].square().sum(), filters[1].square().sum()


def _kept(span: Span) -> Tensor:
    return span.energies[: span.rank]


def _filter(energies: Tensor, total: Tensor, ridge: float) -> Tensor:
    """Weight of each direction, v / (v + ridge) of its share v of the variance."""
    return energies / (energies + ridge * total)


def _check(ridge: float) -> None:
    if not (ridge >= 0 and math.isfinite(ridge)):
        raise PursuhintError(f"ridge must be a number of at least 0, got {ridge}")


def ridge_cca_matrix(layers: LayerStatistics, *, ridge: float = RIDGE) -> Tensor:
    """Ridge-regularized CCA of all pairs of layers; see `ridge_cca`.

    Args:
        layers: statistics of at least two samples.
        ridge: a share of the variance of a layer; 0 or more.

    Returns:
        (layers, layers), float64, symmetric, diagonal 1; NaN in the rows and columns of layers without
        variance.

    Raises:
        PursuhintError: fewer than two samples, or the ridge is negative.
    """
    if ridge == RIDGE:
        return _cosines(layers.over_strips(_inner_products), layers)
    return ridge_cca_sweep(layers, [ridge])[0]


def ridge_cca_sweep(layers: LayerStatistics, ridges: Sequence[float]) -> Tensor:
    """`ridge_cca_matrix` for several ridges, at little more than the cost of one.

    Args:
        layers: statistics of at least two samples.
        ridges: shares of the variance of a layer; 0 or more.

    Returns:
        (ridges, layers, layers), float64.

    Raises:
        PursuhintError: as `ridge_cca_matrix`.
    """
    return torch.stack([_cosines(inner, layers) for inner in _inner_tables(layers, ridges)])


def gulp_distances(layers: LayerStatistics, *, ridge: float = RIDGE) -> Tensor:
    """GULP distance of all pairs of layers; see `gulp_distance`.

    Args:
        layers: statistics of at least two samples.
        ridge: a share of the variance of a layer; 0 or more.

    Returns:
        (layers, layers), float64, symmetric, diagonal 0; NaN in the rows and columns of layers without
        variance.

    Raises:
        PursuhintError: as `ridge_cca_matrix`.
    """
    inner = _inner_tables(layers, [ridge])[0]
    own = inner.diagonal()
    return masked((own[:, None] + own - 2 * inner).clamp_min(0).sqrt(), layers)


def _cosines(inner: Tensor, layers: LayerStatistics) -> Tensor:
    own = inner.diagonal().sqrt()
    return masked(inner / torch.outer(own, own), layers)


def _inner_tables(layers: LayerStatistics, ridges: Sequence[float]) -> Tensor:
    for ridge in ridges:
        _check(ridge)
    layers.require(2)
    tables = torch.zeros(len(ridges), len(layers), len(layers), dtype=torch.float64, device=layers.device)
    for i in range(len(layers)):
        values = _of_strip(Strip(layers, i), ridges)
        tables[:, i, i:] = values
        tables[:, i:, i] = values
    return tables


def _inner_products(strip: Strip) -> Tensor:
    return _of_strip(strip, [RIDGE])[0]


def _of_strip(strip: Strip, ridges: Sequence[float]) -> Tensor:
    """Inner products of layer i with each layer from it on, (ridges, layers - i)."""
    first = _filters(strip.layers, strip.i, ridges)
    products = [
        ((first @ coupling.square()) * _filters(strip.layers, j, ridges)).sum(1)
        for j, coupling in strip.couplings()
    ]
    return torch.stack(products, dim=1).double()


def _filters(layers: LayerStatistics, i: int, ridges: Sequence[float]) -> Tensor:
    """Weights of the directions of a layer, (ridges, rank)."""
    basis = layers.basis(i)
    energies, total = basis.energies[: basis.rank], basis.energies.sum()
    return torch.stack([_filter(energies, total, ridge) for ridge in ridges])


RIDGE_CCA = Metric(
    "ridge-cca",
    "ridge CCA",
    ridge_cca,
    ridge_cca_matrix,
    strips=(_inner_products,),
)
