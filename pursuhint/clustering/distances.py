r"""Distances between layers from similarities, and similarities from distances.

A matrix of inner products determines all distances,

.. math:: d_{ij}^2 = S_{ii} + S_{jj} - 2 S_{ij},

and distances determine the inner products about their common centre. So every algorithm of this package
accepts either: those on distances (k-medoids, linkage, silhouettes) compute them from a similarity, and a
matrix of distances is clustered through `similarity_of`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from pursuhint.clustering.inertia import Matrix, Similarity, checked_similarity
from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from torch import Tensor

ZERO = 1e-6
"""A layer's distance to itself up to this fraction of the largest distance counts as rounding."""


def distances_of(similarity: Similarity, *, normalize: bool = False) -> Tensor:
    r"""Distance of every pair of layers, :math:`\sqrt{S_{ii} + S_{jj} - 2 S_{ij}}`.

    For CKA, R2CCA by rank and others with a unit diagonal this is :math:`\sqrt{2 (1 - S_{ij})}`. Where a
    similarity that is not positive semi-definite gives a negative square, the distance is 0.

    Args:
        similarity: (layers, layers); one that is not symmetric is averaged with its transpose.
        normalize: give every layer unit length first; see `pursuhint.clustering.kmeans`.

    Returns:
        (layers, layers), float64, symmetric, diagonal 0.

    Raises:
        PursuhintError: the similarity is not a finite square matrix.

    Example:
        >>> distances_of(torch.tensor([[1.0, 0.5], [0.5, 1.0]]))
        tensor([[0., 1.],
                [1., 0.]], dtype=torch.float64)
    """
    import torch

    return torch.from_numpy(distances_between(checked_similarity(similarity, normalize=normalize)))


def distances_between(matrix: Matrix) -> Matrix:
    """`distances_of` for a matrix that has been checked already."""
    own = matrix.diagonal()
    squares = own[:, None] + own - 2 * matrix
    np.fill_diagonal(squares, 0.0)
    distances: Matrix = np.sqrt(np.maximum(squares, 0.0))
    return distances


def similarity_of(distances: Similarity) -> Tensor:
    r"""Similarity with the given distances: :math:`-\tfrac12 J D^{\circ 2} J`, :math:`J` the centring matrix.

    Inner products about the centre of all layers (classical scaling), so that
    ``distances_of(similarity_of(d))`` is ``d`` and any clustering algorithm can start from distances.

    Reference: W. S. Torgerson, Multidimensional Scaling: I. Theory and Method, Psychometrika 17 (1952),
    401-419.

    Args:
        distances: (layers, layers), nonnegative, diagonal 0; averaged with its transpose if not symmetric.

    Returns:
        (layers, layers), float64, symmetric; positive semi-definite when the distances are Euclidean.

    Raises:
        PursuhintError: the distances are not a finite square matrix, one is negative, or a layer is not at
            distance 0 from itself.
    """
    import torch

    matrix = checked_similarity(distances, normalize=False, what="distances")
    if (matrix < 0).any():
        raise PursuhintError(f"distances must not be negative, got {matrix.min():g}")
    if (matrix.diagonal() > ZERO * matrix.max()).any():
        layer = int(np.argmax(matrix.diagonal())) + 1
        raise PursuhintError(
            f"distances must be 0 on the diagonal, got {matrix[layer - 1, layer - 1]:g} for layer {layer}; "
            "similarities are clustered as they are"
        )
    np.fill_diagonal(matrix, 0.0)
    squares = np.square(matrix)
    # J D J: subtract the means of rows and columns, and add back the mean of all, subtracted twice.
    centered = squares - squares.mean(0) - squares.mean(1)[:, None] + squares.mean()
    return torch.from_numpy(centered / -2)
