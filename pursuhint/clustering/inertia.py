r"""Distances between layers and clusters computed from similarities alone.

A positive semi-definite similarity :math:`S` is a matrix of inner products; for CKA of unit vectors in a
kernel's feature space, where :math:`1 - \mathrm{CKA}` is half a squared distance. The centroid of a cluster
:math:`c` is the mean of its members' vectors, and the squared distance of layer i to it is

.. math:: S_{ii} - 2\,\mathrm{mean}_{j \in c} S_{ij} + \mathrm{mean}_{j, l \in c} S_{jl} .

A similarity that is not positive semi-definite is used in the same expressions; a squared distance can
then be negative.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from pursuhint.clustering.result import check_k
from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Matrix", "Similarity", "checked_similarity", "squared_distances", "tie_width"]

Matrix = NDArray[np.float64]
Similarity: TypeAlias = "Tensor | Matrix"
"""Matrix to be clustered: a tensor, or a NumPy array, for which torch need not be imported."""


def as_array(values: Any) -> Matrix:
    """Copy a tensor or an array into a float64 array."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().double().numpy()
    return np.array(values, dtype=np.float64)


def inertia(similarity: Similarity, labels: Sequence[int], *, normalize: bool = False) -> float:
    r"""Sum over layers of the squared distance to the centroid of their cluster.

    .. math:: \sum_i S_{ii} - \sum_c \frac{1}{|c|} \sum_{j, l \in c} S_{jl} .

    Args:
        similarity: (layers, layers).
        labels: cluster of each layer, any integers.
        normalize: give every layer unit length first; see `pursuhint.clustering.kmeans`.

    Raises:
        PursuhintError: the similarity is not a finite square matrix, or the number of labels differs.
    """
    matrix = checked_similarity(similarity, normalize=normalize)
    if len(labels) != len(matrix):
        raise PursuhintError(f"{len(labels)} labels for {len(matrix)} layers")
    return inertia_of(matrix, np.asarray(labels))


def inertia_of(matrix: Matrix, labels: NDArray[np.int64]) -> float:
    """`inertia` for a matrix that has been checked already."""
    groups = [labels == label for label in np.unique(labels)]
    return float(np.trace(matrix) - sum(_mean_within(matrix, group) * group.sum() for group in groups))


def _mean_within(matrix: Matrix, members: NDArray[np.bool_]) -> float:
    return float(matrix[np.ix_(members, members)].mean())


def squared_distances(matrix: Matrix, labels: NDArray[np.int64], k: int) -> Matrix:
    """Squared distance of every layer to the centroid of every cluster, (layers, k). No cluster is empty."""
    # |x_i - mean_c|^2 = S_ii - 2 mean_j S_ij + mean_jl S_jl, with j and l over the members of c.
    distances = np.empty((len(matrix), k))
    for cluster in range(k):
        members = labels == cluster
        to_members = matrix[:, members].mean(axis=1)
        distances[:, cluster] = matrix.diagonal() - 2 * to_members + _mean_within(matrix, members)
    return distances


def tie_width(matrix: Matrix) -> float:
    """Squared distances closer than this count as equal, up to rounding."""
    return 1e-12 * float(np.abs(matrix).max())


def checked_similarity(
    similarity: Similarity, *, normalize: bool, k: int | None = None, what: str = "similarity"
) -> Matrix:
    """Check a similarity and the requested number of clusters.

    Args:
        similarity: (layers, layers). One that is not symmetric (PWCCA) is replaced by the mean of itself and
            its transpose.
        normalize: divide by the square roots of the diagonal on both sides.
        k: number of clusters.
        what: name of the matrix in error messages.

    Returns:
        The similarity as a float64 array, symmetric.

    Raises:
        PursuhintError: it is not square, holds NaN or infinity, or cannot be normalised; or k is below 2 or
            above the number of layers.
    """
    matrix = as_array(similarity)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or not len(matrix):
        raise PursuhintError(f"{what} must be of shape (layers, layers), got {matrix.shape}")
    finite = np.isfinite(matrix)
    if not finite.all():
        layer = int(np.argmax((~finite).sum(axis=1))) + 1
        raise PursuhintError(
            f"{what} holds NaN or infinity, most in the row of layer {layer} of {len(matrix)}; "
            "leave out layers that do not vary"
        )
    if k is not None:
        check_k(k, len(matrix))
    matrix = (matrix + matrix.T) / 2
    if normalize:
        diagonal = matrix.diagonal()
        if (diagonal <= 0).any():
            layer = int(np.argmin(diagonal)) + 1
            raise PursuhintError(
                f"cannot normalise: layer {layer} of {len(matrix)} has similarity {diagonal[layer - 1]:g} "
                "with itself"
            )
        length = np.sqrt(diagonal)
        matrix = matrix / np.outer(length, length)
    return matrix
