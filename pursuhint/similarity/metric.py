"""What a similarity metric is: a function of two matrices, and the same for all pairs of layers at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from pursuhint.similarity.moments import LayerMoments

__all__ = ["Metric"]


@dataclass(frozen=True)
class Metric:
    """A named similarity of representation matrices.

    Attributes:
        name: as in `pursuhint.similarity.METRICS`.
        title: for figures and reports, ``"linear CKA"``.
        pair: function of two representation matrices (samples, features) that returns a float64 scalar.
        matrix: the same for all pairs of layers, from their moments: (layers, layers), float64.
        for_clustering: name of the metric that layers are clustered with when this one is asked for. It is
            the metric's own name unless the metric does not give a layer the similarity 1 with itself.
    """

    name: str
    title: str
    pair: Callable[[Tensor, Tensor], Tensor]
    matrix: Callable[[LayerMoments], Tensor]
    for_clustering: str
