"""The best partition of the layers into contiguous groups, by dynamic programming."""

from __future__ import annotations

import numpy as np

from pursuhint.clustering.inertia import Matrix, Similarity, checked_similarity, inertia_of, tie_width
from pursuhint.clustering.result import Clustering

__all__ = ["segments"]


def segments(similarity: Similarity, k: int, *, normalize: bool = False) -> Clustering:
    r"""Cut the layers, in depth order, into k contiguous segments of lowest total inertia.

    The optimum over all contiguous partitions: with :math:`c(a, b)` the inertia of layers a to b - 1 as one
    cluster, the best inertia of the first n layers in m segments is

    .. math:: B_m(n) = \min_{m - 1 \le a < n} B_{m-1}(a) + c(a, n),

    evaluated for all n and m in :math:`O(k L^2)`. Unlike k-means it does not depend on seeds. Ties go to
    the partition with the later cuts, comparing the deepest cut first.

    Reference: W. D. Fisher, On Grouping for Maximum Homogeneity, Journal of the American Statistical
    Association 53 (1958), 789-798.

    Args:
        similarity: (layers, layers); one that is not symmetric is averaged with its transpose.
        k: number of segments, from 2 to the number of layers.
        normalize: give every layer unit length first; see `pursuhint.clustering.kmeans`.

    Returns:
        A contiguous clustering.

    Raises:
        PursuhintError: the similarity is not a finite square matrix, or k is out of range.

    Example:
        >>> segments(torch.block_diag(torch.ones(3, 3), torch.ones(2, 2)), 2).labels
        (0, 0, 0, 1, 1)
    """
    matrix = checked_similarity(similarity, normalize=normalize, k=k)
    layers = len(matrix)
    cost = segment_costs(matrix)
    tie = tie_width(matrix) * layers
    best = cost[0]  # B_1(n): inertia of the first n layers as one segment, n from 0
    starts = np.zeros((k, layers + 1), dtype=int)
    for used in range(1, k):
        totals = best[:, None] + cost  # B_m(a) + c(a, n) at [a, n]
        # The last segment starts at the a that minimises it; of those that tie, the last.
        tied = totals <= totals.min(axis=0) + tie
        starts[used] = layers - np.argmax(tied[::-1], axis=0)
        best = totals.min(axis=0)
    # Follow the stored starts back from the last layer.
    labels = np.zeros(layers, dtype=int)
    end = layers
    for used in range(k - 1, 0, -1):
        start = starts[used, end]
        labels[start:end] = used
        end = start
    return Clustering(tuple(labels.tolist()), inertia_of(matrix, labels), 1, "segments")


def segment_costs(matrix: Matrix) -> Matrix:
    """Inertia of layers a to b - 1 as one cluster at [a, b], infinite unless a < b; (layers + 1,) * 2."""
    layers = len(matrix)
    # corner[a, b] is the sum over the first a rows and b columns, so that any block's sum takes four entries.
    corner = np.zeros((layers + 1, layers + 1))
    corner[1:, 1:] = matrix.cumsum(axis=0).cumsum(axis=1)
    trace = np.concatenate([[0.0], matrix.diagonal().cumsum()])
    a, b = np.triu_indices(layers + 1, k=1)
    within = corner[b, b] - corner[a, b] - corner[b, a] + corner[a, a]
    cost = np.full((layers + 1, layers + 1), np.inf)
    cost[a, b] = trace[b] - trace[a] - within / (b - a)
    return cost
