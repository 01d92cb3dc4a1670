"""Linear centred kernel alignment (Kornblith et al., 2019)."""

from __future__ import annotations

import torch
from torch import Tensor

from pursuhint.similarity.accumulators.base import LayerStatistics, Strip
from pursuhint.similarity.checks import centered_pair
from pursuhint.similarity.kernel import linear_cka_on_row_subsamples
from pursuhint.similarity.metric import Metric, masked, undefined
from pursuhint.similarity.subsampled import linear_cka_on_subsamples

__all__ = ["LINEAR_CKA", "linear_cka", "linear_cka_matrix"]


def linear_cka(x: Tensor, y: Tensor) -> Tensor:
    r"""Linear CKA of two representation matrices.

    With the column means of :math:`X` and :math:`Y` removed,

    .. math:: \mathrm{CKA} = \frac{\lVert X^\top Y \rVert_F^2}
        {\lVert X^\top X \rVert_F \, \lVert Y^\top Y \rVert_F} .

    Equal to 1 if the samples have the same geometry in both. Invariant to rotation, reflection and isotropic
    scaling of either matrix, but not to other invertible maps. This is the biased estimate (HSIC_0), which
    papers report: for few samples and many features it is above zero even for independent features.

    Reference: S. Kornblith, M. Norouzi, H. Lee and G. Hinton, Similarity of Neural Network Representations
    Revisited, ICML 2019, https://arxiv.org/abs/1905.00414, section 3; equations 4 and 5 of PURSUhInT.

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
        >>> round(float(linear_cka(x, -3 * x)), 6)
        1.0
    """
    (x, y), (floor_x, floor_y) = centered_pair(x, y)
    own_x, own_y = squared_norm(x, x), squared_norm(y, y)
    if own_x.sqrt() <= floor_x or own_y.sqrt() <= floor_y:
        return undefined(x)
    # Scaled to a squared norm of about 1 first, so that squaring once more stays inside the range of float64.
    x, y = x / own_x**0.25, y / own_y**0.25
    return squared_norm(x, y) / (squared_norm(x, x).sqrt() * squared_norm(y, y).sqrt())


def squared_norm(x: Tensor, y: Tensor) -> Tensor:
    """Squared Frobenius norm of x^T y, from products of features or of samples, whichever is cheaper."""
    samples = len(x)
    if samples**2 < x.shape[1] * y.shape[1]:
        return ((x @ x.T) * (y @ y.T)).sum()
    return (x.T @ y).square().sum()


def linear_cka_matrix(layers: LayerStatistics) -> Tensor:
    """Linear CKA of all pairs of layers; see `linear_cka`.

    Args:
        layers: statistics of at least two samples.

    Returns:
        (layers, layers), float64, symmetric, diagonal 1; NaN in the rows and columns of layers without
        variance.

    Raises:
        PursuhintError: fewer than two samples.
    """
    norms = layers.over_strips(scaled_squared_norms)
    own = norms.diagonal().sqrt()
    return masked(norms / torch.outer(own, own), layers)


def scaled_squared_norms(strip: Strip) -> Tensor:
    """Squared Frobenius norms of cross-products with all deeper layers, each layer scaled by its variation.

    These are the numerators of CKA; the square roots of the diagonal are its denominators.
    """
    layers, i = strip.layers, strip.i
    # Scaled by the root of each layer's variation first, so that squares stay inside the range of the dtype.
    scales = torch.stack([layers.variation(j) for j in range(i, len(layers))]).sqrt()
    scales = scales.clamp_min(torch.finfo(scales.dtype).tiny)
    columns = (strip.cross / (scales[0] * scales[strip.layer_of_column])).square_().sum(0)
    norms = torch.zeros(len(layers) - i, dtype=columns.dtype, device=columns.device)
    return norms.index_add_(0, strip.layer_of_column, columns).double()


LINEAR_CKA = Metric(
    "cka",
    "linear CKA",
    linear_cka,
    linear_cka_matrix,
    strips=(scaled_squared_norms,),
    single=True,
    on_subsamples=linear_cka_on_subsamples,
    on_row_subsamples=linear_cka_on_row_subsamples,
    many_subsamples=True,
)
