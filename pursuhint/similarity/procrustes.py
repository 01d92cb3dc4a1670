"""Orthogonal Procrustes similarity."""

from __future__ import annotations

import torch
from torch import Tensor

from pursuhint.similarity.accumulators.base import LayerStatistics, Strip
from pursuhint.similarity.checks import centered_pair, rotated
from pursuhint.similarity.metric import Metric, masked, undefined

__all__ = ["PROCRUSTES", "procrustes_matrix", "procrustes_similarity"]


def procrustes_similarity(x: Tensor, y: Tensor) -> Tensor:
    r"""How well one representation matrix can be rotated onto another.

    With the column means of :math:`X` and :math:`Y` removed, and :math:`\lVert \cdot \rVert_*` the sum of
    singular values,

    .. math:: \frac{\lVert X^\top Y \rVert_*}{\lVert X \rVert_F \, \lVert Y \rVert_F} ,

    the cosine between X and the best rotation of Y (the narrower padded with zeros). The orthogonal
    Procrustes distance of the two, each scaled to unit norm, is the square root of 2 minus twice this.
    Ignores rotation, reflection and one common scale of the features of either side.

    Reference: P. H. Schönemann, A generalized solution of the orthogonal Procrustes problem, Psychometrika
    31, 1966; A. H. Williams, E. Kunz, S. Kornblith and S. W. Linderman, Generalized Shape Metrics on Neural
    Representations, NeurIPS 2021, https://arxiv.org/abs/2110.14739, section 2; F. Ding, J.-S. Denain and J.
    Steinhardt, Grounding Representation Similarity with Statistical Testing, NeurIPS 2021,
    https://arxiv.org/abs/2108.01661.

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
        >>> round(float(procrustes_similarity(x, x.flip(1))), 6)
        1.0
    """
    matrices, (floor_x, floor_y) = centered_pair(x, y)
    x, y = (rotated(matrix) for matrix in matrices)
    if torch.linalg.matrix_norm(x.T @ x) <= floor_x or torch.linalg.matrix_norm(y.T @ y) <= floor_y:
        return undefined(x)
    norm_x, norm_y = torch.linalg.matrix_norm(x), torch.linalg.matrix_norm(y)
    return torch.linalg.svdvals((x / norm_x).T @ (y / norm_y)).sum()


def procrustes_matrix(layers: LayerStatistics) -> Tensor:
    """Procrustes similarity of all pairs of layers; see `procrustes_similarity`.

    Args:
        layers: statistics of at least two samples.

    Returns:
        (layers, layers), float64, symmetric, diagonal 1; NaN in the rows and columns of layers without
        variance.

    Raises:
        PursuhintError: fewer than two samples.
    """
    return masked(layers.over_strips(nuclear_norms), layers)


def nuclear_norms(strip: Strip) -> Tensor:
    """Nuclear norms of cross-products with all deeper layers, each layer scaled to unit norm."""
    layers, i = strip.layers, strip.i
    size = layers.spread(i).sqrt()
    return torch.stack(
        [_nuclear_norm(block / size / layers.spread(j).sqrt()).double() for j, block in strip.blocks()]
    )


def _nuclear_norm(cross: Tensor) -> Tensor:
    # A layer without variance is 0/0 throughout, and an SVD of NaN raises.
    if not bool(torch.isfinite(cross).all()):
        return cross.new_full((), torch.nan)
    return torch.linalg.svdvals(cross).sum()


PROCRUSTES = Metric(
    "procrustes",
    "orthogonal Procrustes",
    procrustes_similarity,
    procrustes_matrix,
    strips=(nuclear_norms,),
    single=True,
)
