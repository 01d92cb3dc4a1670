"""k-means on a precomputed similarity, as PURSUhInT clusters layers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pursuhint.clustering.inertia import (
    Matrix,
    Similarity,
    checked_similarity,
    inertia_of,
    squared_distances,
    tie_width,
)
from pursuhint.clustering.result import Clustering, number_by_depth
from pursuhint.errors import PursuhintError

__all__ = ["kmeans"]

Labels = NDArray[np.int64]


def seeds(layers: int, k: int) -> tuple[int, ...]:
    """Initial centroids: indices (from 0) of the first and last layer and of evenly spaced ones between.

    Rounded down, so that for k = 3 they are the paper's "first, center and last layers", with the lower
    middle as the center of an even number.
    """
    return tuple(cluster * (layers - 1) // (k - 1) for cluster in range(k))


def kmeans(
    similarity: Similarity, k: int, *, normalize: bool = False, max_iterations: int = 300
) -> Clustering:
    r"""Lloyd's algorithm with the kernel trick: from similarities alone, without explicit centroids.

    The squared distance of layer i to the centroid of cluster c is
    :math:`S_{ii} - 2\,\mathrm{mean}_{j \in c} S_{ij} + \mathrm{mean}_{j,l \in c} S_{jl}`, exact when S is
    positive semi-definite, because :math:`1 - \mathrm{CKA}` is half a squared distance between unit vectors.
    This is our reading of equations 6 and 7 of PURSUhInT, whose centroid would be a mean of matrices of
    different widths, which is undefined otherwise. Seeds are the paper's, see `seeds`.

    On a tie a layer joins the shallower cluster, which begins earlier. An empty cluster receives the layer
    that is farthest from its own centroid. R2CCA and other similarities need not be positive semi-definite;
    inertia may then rise, and the algorithm may cycle. So it stops at the first clustering that it has
    visited before, and returns the best one visited. (A diagonal shift that makes S positive semi-definite
    does not change the best partition, but freezes the algorithm at its seeds.)

    The result is a local optimum, often close to the seeds; `pursuhint.clustering.segments` computes the
    best contiguous partition for comparison.

    Reference: PURSUhInT, section 3.2.

    Args:
        similarity: (layers, layers); one that is not symmetric is averaged with its transpose.
        k: number of clusters, from 2 to the number of layers.
        normalize: give every layer unit length first, :math:`S_{ij} / \sqrt{S_{ii} S_{jj}}`. It changes
            nothing where the diagonal is 1 already, as for CKA and for R2CCA by rank, which
            `pursuhint.analyze` clusters with ``normalize`` in place of R2CCA.
        max_iterations: maximum number of assignments.

    Returns:
        The clustering with the lowest inertia among those visited.

    Raises:
        PursuhintError: the similarity is not a finite square matrix, k is out of range, or
            ``max_iterations`` is below 1.

    Example:
        >>> two_groups = torch.block_diag(torch.ones(3, 3), torch.ones(2, 2))
        >>> kmeans(two_groups, 2).labels
        (0, 0, 0, 1, 1)
    """
    matrix = checked_similarity(similarity, normalize=normalize, k=k)
    if max_iterations < 1:
        raise PursuhintError(f"max_iterations must be at least 1, got {max_iterations}")
    start = list(seeds(len(matrix), k))
    own = matrix.diagonal()
    # A seed is a cluster of one layer: S_ii - 2 S_is + S_ss.
    distances = own[:, None] - 2 * matrix[:, start] + own[start]
    visited: dict[tuple[int, ...], float] = {}
    while len(visited) < max_iterations:
        labels = _assign(distances, tie_width(matrix))
        if tuple(labels) in visited:
            break
        visited[tuple(labels)] = inertia_of(matrix, labels)
        distances = squared_distances(matrix, labels, k)
    best = min(visited, key=lambda labels: visited[labels])
    return Clustering(tuple(int(label) for label in best), visited[best], len(visited), "kmeans")


def _assign(distances: Matrix, tie: float) -> Labels:
    """Assign every layer to its nearest cluster, leaving none empty; clusters are numbered by depth."""
    layers, k = distances.shape
    near = distances <= distances.min(axis=1, keepdims=True) + tie
    labels: Labels = near.argmax(axis=1)  # the first, hence shallowest, of the clusters that tie
    own = distances[np.arange(layers), labels]
    for cluster in range(k):
        sizes = np.bincount(labels, minlength=k)
        if sizes[cluster]:
            continue
        movable = np.where(sizes[labels] > 1, own, -np.inf)
        farthest = int(np.argmax(movable >= movable.max() - tie))
        labels[farthest] = cluster
        own[farthest] = 0.0
    return np.asarray(number_by_depth(labels.tolist()))
