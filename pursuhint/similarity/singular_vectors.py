"""Singular vector canonical correlation analysis, SVCCA (Raghu et al., 2017)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pursuhint.errors import PursuhintError
from pursuhint.similarity.accumulators.base import LayerStatistics, Strip
from pursuhint.similarity.canonical import spans
from pursuhint.similarity.metric import Metric, undefined

__all__ = ["SVCCA", "svcca", "svcca_matrix"]

VARIANCE = 0.99
"""The share of the variance that a layer's leading directions must explain together."""


def svcca(x: Tensor, y: Tensor, *, variance: float = VARIANCE) -> Tensor:
    r"""Mean canonical correlation of the leading directions of two representation matrices.

    With the thin SVD :math:`X = U \, \mathrm{diag}(s) \, V^\top` of the centred matrix, :math:`k` the
    smallest number with :math:`\sum_{a \le k} s_a^2 \ge 0.99 \sum_a s_a^2`, and :math:`U_X, U_Y` the first
    :math:`k_X, k_Y` columns of the two :math:`U`,

    .. math:: \mathrm{SVCCA} = \frac{1}{\min(k_X, k_Y)} \sum_a \sigma_a(U_X^\top U_Y) .

    Ignores rotation and one common scale of the features of either side. It ignores other invertible maps
    only within the directions that it keeps.

    Reference: M. Raghu, J. Gilmer, J. Yosinski and J. Sohl-Dickstein, SVCCA: Singular Vector Canonical
    Correlation Analysis for Deep Learning Dynamics and Interpretability, NeurIPS 2017,
    https://arxiv.org/abs/1706.05806, section 2.

    Args:
        x: shape (samples, features), any floating-point type; computed in float64.
        y: shape (samples, other features).
        variance: the share of variance to keep, above 0 and at most 1; the paper's 0.99 by default.

    Returns:
        Float64 scalar in [0, 1]; NaN (0/0) when a side has no variance beyond the rounding of its type.

    Raises:
        PursuhintError: a shape or type is wrong, a value is not finite, the numbers of samples differ, there
            are fewer than two samples, or ``variance`` is out of range.

    Example:
        >>> x = torch.randn(100, 8)
        >>> round(float(svcca(x, 5 * x.flip(1) + 1)), 6)
        1.0
    """
    if not 0 < variance <= 1:
        raise PursuhintError(f"variance must be above 0 and at most 1, got {variance}")
    first, second = spans(x, y)
    if min(first.rank, second.rank) == 0:
        return undefined(x)
    left, right = (span.left[:, : _leading(span.energies, variance)] for span in (first, second))
    return _mean_correlation(left.T @ right)


def svcca_matrix(layers: LayerStatistics) -> Tensor:
    """SVCCA of all pairs of layers; see `svcca`.

    Args:
        layers: statistics of at least two samples.

    Returns:
        (layers, layers), float64, symmetric, diagonal 1; NaN in the rows and columns of layers without
        variance.

    Raises:
        PursuhintError: fewer than two samples.
    """
    return layers.over_strips(_mean_correlations)


def _mean_correlations(strip: Strip) -> Tensor:
    counts = strip.layers.once(_leading_directions)
    return torch.stack(
        [_mean_correlation(t[: counts[strip.i], : counts[j]]).double() for j, t in strip.couplings()]
    )


def _leading_directions(layers: LayerStatistics) -> list[int]:
    return [_leading(layers.basis(i).energies, VARIANCE) for i in range(len(layers))]


def _leading(energies: Tensor, variance: float) -> int:
    """Smallest number of leading directions that explain a share of the variance."""
    # Compared with the last entry of the cumulative sum, not with `sum()`, which may round differently.
    explained = energies.cumsum(0)
    return int((explained < variance * explained[-1]).sum()) + 1


def _mean_correlation(coupling: Tensor) -> Tensor:
    if coupling.numel() == 0:
        return coupling.new_full((), math.nan)
    return torch.linalg.svdvals(coupling).mean()


SVCCA = Metric("svcca", "SVCCA", svcca, svcca_matrix, strips=(_mean_correlations,), samples_per_feature=2)
