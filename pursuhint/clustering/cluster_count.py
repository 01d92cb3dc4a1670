"""Clusterings over the number of clusters k, and the choice of k."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from pursuhint.clustering.inertia import Similarity
from pursuhint.clustering.result import Clustering
from pursuhint.clustering.silhouette import silhouette
from pursuhint.errors import PursuhintError

__all__ = ["AUTO", "ClusteringsOverK", "KChoice", "choose_k"]

AUTO = "auto"
"""Value of ``k`` that means: choose the number of clusters automatically."""

LARGEST_K = 8
"""Largest number of clusters of the curves and of the automatic choice."""


@dataclass(frozen=True)
class KChoice:
    """A number of clusters and the reason for it.

    Attributes:
        k: number of clusters.
        reason: a sentence with the deciding silhouettes and the inertias beside them.
    """

    k: int
    reason: str


class ClusteringsOverK:
    """The clusterings of one similarity by one algorithm; each k is clustered once, when it is first used.

    Args:
        algorithm: see `pursuhint.clustering.get_algorithm`.
        similarity: (layers, layers).
        normalize: see `pursuhint.clustering.kmeans`.
    """

    def __init__(
        self, algorithm: Callable[..., Clustering], similarity: Similarity, *, normalize: bool = False
    ) -> None:
        self._algorithm = algorithm
        self._similarity = similarity
        self._normalize = normalize
        self._found: dict[int, Clustering] = {}

    def at(self, k: int) -> Clustering:
        """The clustering into k clusters.

        Raises:
            PursuhintError: k is out of range, or the similarity is not a finite square matrix.
        """
        if k not in self._found:
            self._found[k] = self._algorithm(self._similarity, k, normalize=self._normalize)
        return self._found[k]

    @property
    def tried(self) -> range:
        """k = 2, 3, ... up to `LARGEST_K` and below the number of layers; empty for two layers."""
        return range(2, min(len(self._similarity) - 1, LARGEST_K) + 1)

    @cached_property
    def inertias(self) -> dict[int, float]:
        """Inertia by k, for the k of `tried`."""
        return {k: self.at(k).inertia for k in self.tried}

    @cached_property
    def silhouettes(self) -> dict[int, float]:
        """Mean silhouette by k, for the k of `tried`."""
        return {
            k: silhouette(self._similarity, self.at(k).labels, normalize=self._normalize) for k in self.tried
        }


def choose_k(inertias: Mapping[int, float], silhouettes: Mapping[int, float]) -> KChoice:
    """Choose the number of clusters with the highest mean silhouette; the smaller one on a tie.

    Inertia does not decide, because it falls with every further cluster. The reason states it beside the
    silhouette: layers that change gradually have no natural number of groups, and k = 2 then often has the
    highest silhouette by a narrow margin.

    Args:
        inertias: inertia by k.
        silhouettes: mean silhouette by the same k; empty for two layers, which always form two clusters.

    Raises:
        PursuhintError: inertias and silhouettes have different k.
    """
    if inertias.keys() != silhouettes.keys():
        raise PursuhintError(
            f"inertias for k = {sorted(inertias)} but silhouettes for k = {sorted(silhouettes)}"
        )
    if not silhouettes:
        return KChoice(2, "k = 2: there are only two layers")
    ranking = sorted(silhouettes, key=lambda k: (-silhouettes[k], k))
    k = ranking[0]
    tried = f"k = {min(silhouettes)} to {max(silhouettes)}" if len(silhouettes) > 1 else f"k = {k} alone"
    reason = f"k = {k}: silhouette {silhouettes[k]:.3f}, the highest of {tried}"
    if len(ranking) > 1:
        reason += f" (next: {silhouettes[ranking[1]]:.3f} at k = {ranking[1]})"
    activations = [f"{inertias[other]:.3g} at k = {other}" for other in (k - 1, k + 1) if other in inertias]
    reason += f"; inertia {inertias[k]:.3g}" + (
        f", against {' and '.join(activations)}" if activations else ""
    )
    return KChoice(k, reason)
