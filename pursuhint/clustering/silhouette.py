"""Silhouette: how well separated clusters are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pursuhint.clustering.distances import distances_between
from pursuhint.clustering.inertia import Similarity, checked_similarity
from pursuhint.errors import PursuhintError


def silhouette(similarity: Similarity, labels: Sequence[int], *, normalize: bool = False) -> float:
    r"""Mean silhouette width of a clustering.

    With :math:`a` the mean distance of a layer to the others of its cluster and :math:`b` the smallest mean
    distance to another cluster, its silhouette is :math:`(b - a) / \max(a, b)`: near 1 for a layer
    close to its own cluster, negative for a layer closer to another one, and 0 by definition for the only
    layer of a cluster. Distances are `pursuhint.clustering.distances_of`.

    Reference: P. J. Rousseeuw, Silhouettes: a Graphical Aid to the Interpretation and Validation of Cluster
    Analysis, Journal of Computational and Applied Mathematics 20 (1987), 53-65.

    Args:
        similarity: (layers, layers); one that is not symmetric is averaged with its transpose.
        labels: cluster of each layer, any integers, at least two different ones.
        normalize: give every layer unit length first; see `pursuhint.clustering.kmeans`.

    Returns:
        A number in [-1, 1].

    Raises:
        PursuhintError: the similarity is not a finite square matrix, the number of labels differs, or there
            is only one cluster.

    Example:
        >>> round(silhouette(torch.block_diag(torch.ones(3, 3), torch.ones(2, 2)), [0, 0, 0, 1, 1]), 6)
        1.0
    """
    matrix = checked_similarity(similarity, normalize=normalize)
    if len(labels) != len(matrix):
        raise PursuhintError(f"{len(labels)} labels for {len(matrix)} layers")
    clusters = len(np.unique(labels))
    if clusters < 2:
        raise PursuhintError("the silhouette needs at least 2 clusters, got 1")
    # Equal to sklearn.metrics.silhouette_score bit for bit. Importing that takes longer than all the rest of
    # `pursuhint select`, which is why these few lines are written out.
    own = np.unique(labels, return_inverse=True)[1]
    sums = np.stack([np.bincount(own, row, minlength=clusters) for row in distances_between(matrix)])
    sizes, layers = np.bincount(own), np.arange(len(own))
    with np.errstate(divide="ignore", invalid="ignore"):
        a = sums[layers, own] / (sizes[own] - 1)  # 0 / 0 for the only layer of a cluster
        means = sums / sizes
        means[layers, own] = np.inf
        b = means.min(axis=1)
        widths = (b - a) / np.maximum(a, b)
    return float(np.nan_to_num(widths).mean())
