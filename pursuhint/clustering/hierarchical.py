"""Agglomerative clustering: join the two nearest groups of layers until k are left."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from pursuhint._util.registry import lookup
from pursuhint.clustering.distances import distances_between
from pursuhint.clustering.inertia import Matrix, Similarity, checked_similarity, inertia_of
from pursuhint.clustering.result import Clustering, number_by_depth

__all__ = ["hierarchical", "linkage_tree"]

Linkage = Literal["ward", "average", "complete", "single"]
LINKAGES: tuple[Linkage, ...] = get_args(Linkage)
"""Distances between two groups of layers, see `linkage_tree`."""


def hierarchical(
    similarity: Similarity, k: int, *, normalize: bool = False, linkage: Linkage = "ward"
) -> Clustering:
    """Cut the tree of `linkage_tree` into k groups.

    Unlike k-means, the clusterings of one tree are nested: going from k to k + 1 splits one group and keeps
    the others.

    Args:
        similarity: (layers, layers); one that is not symmetric is averaged with its transpose. Start from
            distances with `pursuhint.clustering.similarity_of`.
        k: number of clusters, from 2 to the number of layers.
        normalize: give every layer unit length first; see `pursuhint.clustering.kmeans`.
        linkage: one of `LINKAGES`.

    Returns:
        The clustering; ``inertia`` is the objective of k-means, so that algorithms can be compared.

    Raises:
        PursuhintError: the similarity is not a finite square matrix, k is out of range, or there is no such
            linkage.

    Example:
        >>> hierarchical(torch.block_diag(torch.ones(3, 3), torch.ones(2, 2)), 2).labels
        (0, 0, 0, 1, 1)
    """
    matrix = checked_similarity(similarity, normalize=normalize, k=k)
    # Rows of the tree are in the order of joining, so the first L - k of them leave k groups.
    groups: dict[int, list[int]] = {layer: [layer] for layer in range(len(matrix))}
    for step, (first, second, _, _) in enumerate(_tree(matrix, linkage)[: len(matrix) - k]):
        groups[len(matrix) + step] = groups.pop(int(first)) + groups.pop(int(second))
    labels = np.empty(len(matrix), dtype=np.int64)
    for label, members in enumerate(groups.values()):
        labels[members] = label
    numbered = number_by_depth(labels.tolist())
    return Clustering(numbered, inertia_of(matrix, np.asarray(numbered)), 1, "hierarchical")


def linkage_tree(
    similarity: Similarity, *, normalize: bool = False, linkage: Linkage = "ward"
) -> NDArray[np.float64]:
    """Order and distances in which groups are joined, as drawn in a dendrogram.

    Distances come from `pursuhint.clustering.distances_of`. ``"ward"`` joins the two groups
    whose union raises the inertia of k-means least; ``"average"``, ``"complete"`` and ``"single"`` the two
    with the smallest mean, largest or smallest distance between their layers.

    Reference: J. H. Ward, Hierarchical Grouping to Optimize an Objective Function, Journal of the American
    Statistical Association 58 (1963), 236-244; computed by SciPy.

    Args:
        similarity: (layers, layers), at least 2; one that is not symmetric is averaged with its transpose.
        normalize: give every layer unit length first; see `pursuhint.clustering.kmeans`.
        linkage: one of `LINKAGES`.

    Returns:
        (layers - 1, 4), as from ``scipy.cluster.hierarchy.linkage``: the two groups joined (layers are 0 to
        L - 1, the group made by row i is L + i), their distance, and the number of layers in the union.

    Raises:
        PursuhintError: the similarity is not a finite square matrix of at least 2 layers, or there is no
            such linkage.
    """
    return _tree(checked_similarity(similarity, normalize=normalize, k=2), linkage)


def _tree(matrix: Matrix, linkage: Linkage) -> NDArray[np.float64]:
    lookup("linkage", {name: name for name in LINKAGES}, linkage)
    distances = squareform(distances_between(matrix), checks=False)
    tree: NDArray[np.float64] = hierarchy.linkage(distances, method=linkage)
    return tree
