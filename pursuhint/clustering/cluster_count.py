"""Choose the number of clusters from inertia and silhouette over k, with the reason in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pursuhint.clustering.inertia import Similarity
from pursuhint.clustering.result import Clustering
from pursuhint.clustering.silhouette import silhouette
from pursuhint.errors import PursuhintError

__all__ = ["AUTO", "choose_k", "curves_over_k"]

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


def curves_over_k(
    algorithm: Callable[..., Clustering], similarity: Similarity, *, normalize: bool = False
) -> tuple[dict[int, float], dict[int, float]]:
    """Inertia and silhouette of an algorithm's clusterings over k.

    Args:
        algorithm: see `pursuhint.clustering.get_algorithm`.
        similarity: (layers, layers).
        normalize: see `pursuhint.clustering.kmeans`.

    Returns:
        Inertia by k and mean silhouette by k, for k = 2, 3, ... up to `LARGEST_K` and below the number of
        layers; both empty for two layers.
    """
    inertias, silhouettes = {}, {}
    for k in range(2, min(len(similarity) - 1, LARGEST_K) + 1):
        found = algorithm(similarity, k, normalize=normalize)
        inertias[k] = found.inertia
        silhouettes[k] = silhouette(similarity, found.labels, normalize=normalize)
    return inertias, silhouettes


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
