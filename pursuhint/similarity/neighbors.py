"""Mutual nearest neighbours: how many neighbours of an image are the same in two layers."""

from __future__ import annotations

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
    # A block holds, for all layers, whether each sample is a neighbour, and the cosines of one layer.
    size = max(1, MEMORY_BUDGET // ((len(rows) + 3 * 8) * rows.count))
    shared = torch.zeros(len(rows), len(rows), dtype=torch.float64, device=rows.device)
    for start in range(0, rows.count, size):
        block = torch.arange(start, min(start + size, rows.count), device=rows.device)
        shared += _shared(rows, block, inverse, k)
    overlap = shared / (rows.count * k)
    expected = k / (rows.count - 1)
    return masked(overlap if chance else (overlap - expected) / (1 - expected), rows)


def _shared(rows: PooledFeatures, block: Tensor, inverse: Tensor, k: int) -> Tensor:
    """Neighbours that pairs of layers share, summed over some samples, (layers, layers)."""
    layers = len(rows)
    nearest = torch.empty(layers, len(block), k, dtype=torch.int64, device=rows.device)
    members = torch.zeros(layers, len(block), rows.count, dtype=torch.bool, device=rows.device)
    tied = torch.zeros(len(block), dtype=torch.bool, device=rows.device)  # in any layer
    for i in range(layers):
        found = _cosines(rows, i, block, inverse[:, i]).topk(k + 1, dim=1)
        nearest[i] = found.indices[:, :k]
        members[i].scatter_(1, nearest[i], True)
        tied |= found.values[:, k] >= found.values[:, k - 1] - TIE
    shared = torch.zeros(layers, layers, dtype=torch.float64, device=rows.device)
    for i in range(layers):
        both = members[i:].gather(2, nearest[i].expand(layers - i, -1, -1))
        shared[i, i:] = (both.sum(2) * ~tied).sum(1)
    some = max(1, MEMORY_BUDGET // (8 * layers * rows.count))
    for samples in block[tied].split(some):
        weights = torch.stack([_weights(rows, i, samples, inverse[:, i], k) for i in range(layers)])
        for i in range(layers):
            shared[i, i:] += torch.minimum(weights[i:], weights[i]).sum((1, 2))
    return shared + shared.triu(1).T


def _cosines(rows: PooledFeatures, i: int, samples: Tensor, inverse: Tensor) -> Tensor:
    """Of some samples with all samples, (some samples, samples); minus infinity with themselves."""
    features = rows.centered(slice(None), rows.blocks[i]) * inverse[:, None]
    cosines = features[samples] @ features.T
    return cosines.scatter_(1, samples[:, None], -torch.inf)


def _weights(rows: PooledFeatures, i: int, samples: Tensor, inverse: Tensor, k: int) -> Tensor:
    """1 for a neighbour, a share for samples tied for the last places, (some samples, samples)."""
    cosines = _cosines(rows, i, samples, inverse)
    last = cosines.topk(k, dim=1).values[:, -1:]
    nearer, candidates = cosines > last + TIE, cosines >= last - TIE
    places = k - nearer.sum(1, keepdim=True)
    equal = candidates.sum(1, keepdim=True) - nearer.sum(1, keepdim=True)
    weights = torch.where(candidates, places / equal.double(), 0.0)
    return torch.where(nearer, 1.0, weights)


MUTUAL_KNN = Metric(
    "mutual-knn",
    "mutual kNN",
    mutual_knn,
    mutual_knn_matrix,
    needs="rows",
    samples=FEWEST,
)
