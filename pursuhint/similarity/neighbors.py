"""Mutual nearest neighbours: how many neighbours of an image are the same in two layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from pursuhint._util.arrays import as_tensor
from pursuhint.errors import PursuhintError
from pursuhint.similarity.accumulators.base import LayerStatistics
from pursuhint.similarity.accumulators.pooled_features import PooledFeatures, stored_rows
from pursuhint.similarity.checks import centered_pair, scaled_to_one
from pursuhint.similarity.metric import Metric, masked

__all__ = ["MUTUAL_KNN", "mutual_knn", "mutual_knn_matrix"]

NEIGHBORS = 10
"""Default number of neighbours."""

FEWEST = 3
"""Smallest number of samples: with two, the only other sample is every neighbour."""

TIE = 1e-9
"""Cosines that differ by less are equal."""

MEMORY_BUDGET = 128 << 20
"""Bytes for the neighbours of a block of samples in all layers."""


def mutual_knn(x: Tensor, y: Tensor, *, neighbors: int = NEIGHBORS, chance: bool = False) -> Tensor:
    r"""Agreement of the nearest neighbours in two representation matrices.

    With :math:`N_X(a)` the k samples whose centred features have the largest cosine with those of sample a,
    and :math:`c = k / (N - 1)` the overlap of unrelated layers,

    .. math:: m = \frac{1}{N} \sum_a \frac{\lvert N_X(a) \cap N_Y(a) \rvert}{k}, \qquad
        \frac{m - c}{1 - c} ,

    so that unrelated layers have 0 and a layer has 1 with itself. Samples tied for the last places share
    them, so the value does not depend on the order of the samples. Ignores rotation, reflection, shift and
    one common scale of the features of either side.

    Reference: M. Huh, B. Cheung, T. Wang and P. Isola, The Platonic Representation Hypothesis, ICML 2024,
    https://arxiv.org/abs/2405.07987, section A; there without centering and with chance left in.

    Args:
        x: shape (samples, features), any floating-point type; computed in float64.
        y: shape (samples, other features).
        neighbors: k; at most half of the other samples are taken.
        chance: return m itself, with chance left in.

    Returns:
        Float64 scalar in [-1, 1], with ``chance`` in [0, 1]; NaN when a side has no variance beyond the
        rounding of its type.

    Raises:
        PursuhintError: a shape or type is wrong, a value is not finite, the numbers of samples differ, there
            are fewer than three samples, or ``neighbors`` is below 1.

    Example:
        >>> x = torch.randn(100, 8)
        >>> round(float(mutual_knn(x, -3 * x)), 6)
        1.0
    """
    centered_pair(x, y)
    x, y = as_tensor(x, "the values of x"), as_tensor(y, "the values of y")
    rows = PooledFeatures([x.shape[1], y.shape[1]], device=x.device)
    rows.update([scaled_to_one(x), scaled_to_one(y)])
    return mutual_knn_matrix(rows, neighbors=neighbors, chance=chance)[0, 1]


def mutual_knn_matrix(layers: LayerStatistics, *, neighbors: int = NEIGHBORS, chance: bool = False) -> Tensor:
    """Agreement of the nearest neighbours of all pairs of layers; see `mutual_knn`.

    Exact: samples are taken in blocks, each compared with all others. Time grows with the square of the
    number of samples.

    Args:
        layers: `PooledFeatures` of at least three samples.
        neighbors: k; at most half of the other samples are taken.
        chance: return the overlap itself, with chance left in.

    Returns:
        (layers, layers), float64, symmetric, diagonal 1; NaN in the rows and columns of layers without
        variance.

    Raises:
        PursuhintError: these are not `PooledFeatures`, there are fewer than three samples, or ``neighbors``
            is below 1.
    """
    rows = stored_rows(layers, "mutual kNN")
    rows.require(2)
    if rows.count < FEWEST:
        raise PursuhintError(f"mutual kNN needs at least {FEWEST} samples, got {rows.count}")
    if neighbors < 1:
        raise PursuhintError(f"neighbors must be at least 1, got {neighbors}")
    k = min(neighbors, (rows.count - 1) // 2)
    norms = rows.row_norms(slice(None)).sqrt()
    inverse = torch.where(norms > 0, 1 / norms, 0.0)  # a sample at the mean has cosine 0 with all others
    size = max(1, MEMORY_BUDGET // (8 * len(rows) * rows.count))
    shared = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for start in range(0, rows.count, size):
        block = slice(start, min(start + size, rows.count))
        found = [_neighbors(rows, i, block, inverse[:, i], k) for i in range(len(rows))]
        weights = torch.stack([each.weights for each in found])
        for i, each in enumerate(found):
            if each.tied:
                overlap = torch.minimum(weights[i:], each.weights).sum((1, 2))
            else:
                overlap = weights[i:].gather(2, each.indices.expand(len(rows) - i, -1, -1)).sum((1, 2))
            shared[i, i:] += overlap
            shared[i + 1 :, i] += overlap[1:]
    overlap = shared / (rows.count * k)
    expected = k / (rows.count - 1)
    return masked(overlap if chance else (overlap - expected) / (1 - expected), rows)


@dataclass(frozen=True, eq=False)
class _Neighbors:
    """The nearest neighbours of some samples in a layer.

    Attributes:
        weights: 1 for a neighbour, a share for samples tied for the last places, (some samples, samples).
        indices: of the k nearest, (some samples, k).
        tied: whether there are ties for the last places.
    """

    weights: Tensor
    indices: Tensor
    tied: bool


def _neighbors(rows: PooledFeatures, i: int, block: slice, inverse: Tensor, k: int) -> _Neighbors:
    features = rows.centered(slice(None), rows.blocks[i]) * inverse[:, None]
    cosines = features[block] @ features.T
    cosines[torch.arange(len(cosines)), torch.arange(block.start, block.stop)] = -torch.inf
    nearest = cosines.topk(k, dim=1)
    last = nearest.values[:, -1:]
    nearer, candidates = cosines > last + TIE, cosines >= last - TIE
    places = k - nearer.sum(1, keepdim=True)
    equal = candidates.sum(1, keepdim=True) - nearer.sum(1, keepdim=True)
    weights = torch.where(candidates, places / equal.double(), 0.0)
    weights = torch.where(nearer, 1.0, weights)
    return _Neighbors(weights, nearest.indices, bool((equal > places).any()))


MUTUAL_KNN = Metric(
    "mutual-knn",
    "mutual kNN",
    mutual_knn,
    mutual_knn_matrix,
    needs="rows",
    samples=FEWEST,
)
