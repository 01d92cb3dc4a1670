"""k-medoids: the centre of a cluster is one of its layers, not their mean."""

from __future__ import annotations

import numpy as np

from pursuhint.clustering.distances import distances_between
from pursuhint.clustering.inertia import Similarity, checked_similarity, inertia_of
from pursuhint.clustering.kmeans import seeds
from pursuhint.clustering.result import Clustering, number_by_depth

__all__ = ["kmedoids"]


def kmedoids(similarity: Similarity, k: int, *, normalize: bool = False) -> Clustering:
    r"""Choose k layers that minimise the sum of all layers' distances to the nearest of them.

    Minimises :math:`\sum_i \min_{m} d_{im}` over k medoids :math:`m` by exchanging one medoid at a time
    (FasterPAM), deterministically from the seeds of `pursuhint.clustering.kmeans`. Distances are
    `pursuhint.clustering.distances_of`, not squared, so single outlying layers weigh less than in k-means.
    On a tie a layer joins the shallower medoid.

    Reference: E. Schubert and P. J. Rousseeuw, Fast and Eager k-Medoids Clustering, Information Systems 101
    (2021), https://doi.org/10.1016/j.is.2021.101804; computed by their package ``kmedoids``
    (GPL-3.0-or-later), which the extra ``pursuhint[kmedoids]`` installs.

    Args:
        similarity: (layers, layers); one that is not symmetric is averaged with its transpose. Start from
            distances with `pursuhint.clustering.similarity_of`.
        k: number of clusters, from 2 to the number of layers.
        normalize: give every layer unit length first; see `pursuhint.clustering.kmeans`.

    Returns:
        A local optimum. ``inertia`` is the objective of k-means, so that algorithms can be compared, not
        the sum that was minimised.

    Raises:
        PursuhintError: the similarity is not a finite square matrix, or k is out of range.

    Example:
        >>> kmedoids(torch.block_diag(torch.ones(3, 3), torch.ones(2, 2)), 2).labels
        (0, 0, 0, 1, 1)
    """
    import kmedoids as package  # an extra, see get_algorithm

    matrix = checked_similarity(similarity, normalize=normalize, k=k)
    distances = distances_between(matrix)
    start = np.array(seeds(len(matrix), k), dtype=np.uint64)
    found = package.fasterpam(distances, start, n_cpu=1)
    medoids = np.sort(np.asarray(found.medoids, dtype=np.int64))
    # The package may assign a medoid to the cluster of an identical medoid, which leaves its own empty.
    labels = distances[:, medoids].argmin(axis=1)
    labels[medoids] = np.arange(k)
    numbered = number_by_depth(labels.tolist())
    return Clustering(numbered, inertia_of(matrix, np.asarray(numbered)), max(1, found.n_iter), "kmedoids")
