"""The result of a clustering algorithm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pursuhint.errors import PursuhintError

__all__ = ["Clustering", "check_k"]


def check_k(k: int, layers: int) -> None:
    """Check that a number of layers can form k clusters.

    Raises:
        PursuhintError: k is below 2 or above the number of layers.
    """
    if k < 2:
        raise PursuhintError(f"k must be at least 2, got {k}")
    if k > layers:
        raise PursuhintError(f"cannot choose {k} hint points from {layers} layers; ask for at most {layers}")


def number_by_depth(labels: Sequence[int]) -> tuple[int, ...]:
    """Renumber clusters 0, 1, ... in the order of their first members.

    Clusterings that differ only in their numbering become identical.
    """
    numbers: dict[int, int] = {}
    return tuple(numbers.setdefault(int(label), len(numbers)) for label in labels)


@dataclass(frozen=True)
class Clustering:
    """Assignment of layers to clusters.

    Attributes:
        labels: cluster of each layer, in depth order; clusters are numbered from 0 by the depth of their
            first member.
        inertia: sum over layers of the squared distance to the centroid of their cluster
            (`pursuhint.clustering.inertia`).
        iterations: number of assignments; 1 for an algorithm that does not iterate.
        algorithm: name, as in `pursuhint.clustering.ALGORITHMS`.

    Raises:
        PursuhintError: the labels are not numbered by depth.
    """

    labels: tuple[int, ...]
    inertia: float
    iterations: int
    algorithm: str

    def __post_init__(self) -> None:
        if not self.labels or self.labels != number_by_depth(self.labels):
            raise PursuhintError(
                "clusters must be numbered from 0 by the depth of their first layer, "
                f"got labels {list(self.labels)}"
            )

    @property
    def k(self) -> int:
        """Number of clusters."""
        return max(self.labels) + 1

    @property
    def contiguous(self) -> bool:
        """Whether every cluster is an unbroken run of layers."""
        return all(later - label in (0, 1) for label, later in zip(self.labels, self.labels[1:]))

    def members(self, cluster: int) -> tuple[int, ...]:
        """Indices (from 0, in depth order) of the layers in a cluster.

        Raises:
            PursuhintError: there is no such cluster.
        """
        if not 0 <= cluster < self.k:
            raise PursuhintError(f"no cluster {cluster} among {self.k}, which are numbered from 0")
        return tuple(layer for layer, label in enumerate(self.labels) if label == cluster)
