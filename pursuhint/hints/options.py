"""How hint points are chosen from a similarity of layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pursuhint._util.registry import lookup
from pursuhint.clustering import get_algorithm
from pursuhint.clustering.cluster_count import AUTO, ClusteringsOverK, KChoice, choose_k
from pursuhint.clustering.inertia import Similarity
from pursuhint.features.hint_points import HintPoint, number_of_stages
from pursuhint.hints import POSITIONS

__all__ = ["SelectionOptions", "check_position", "default_k"]


def check_position(position: str) -> None:
    """Make sure that a position is one of `POSITIONS`.

    Raises:
        PursuhintError: it is not; the message suggests the closest.
    """
    lookup("position in a cluster", {name: name for name in POSITIONS}, position)


def default_k(points: Sequence[HintPoint]) -> int:
    """Default number of hint points: the number of resolution stages, as is conventional.

    A network with a single stage gets 3. Never more than there are points.
    """
    stages = number_of_stages(points)
    return min(stages if stages > 1 else 3, len(points))


@dataclass(frozen=True)
class SelectionOptions:
    """How layers are clustered and one of each cluster is taken.

    Attributes:
        k: number of hint points, at least 2; ``"auto"``: the k with the highest silhouette, see
            `pursuhint.clustering.choose_k`; None: see `pursuhint.hints.default_k`.
        algorithm: a name of `pursuhint.clustering.ALGORITHMS`.
        position: which member of a cluster is taken; see `pursuhint.hints.choose_positions`.
        normalize: cluster the normalised form of the metric: R2CCA by rank for R2CCA. Where only a matrix is
            known (`HintPlan.choose`), give every layer unit length; see `pursuhint.clustering.kmeans`.

    Raises:
        PursuhintError: the algorithm or the position is unknown.
    """

    k: int | Literal["auto"] | None = None
    algorithm: str = "kmeans"
    position: str = "center"
    normalize: bool = False

    def __post_init__(self) -> None:
        check_position(self.position)
        get_algorithm(self.algorithm)

    def clusterings(self, similarity: Similarity) -> ClusteringsOverK:
        """The clusterings of a similarity (layers, layers) by the algorithm."""
        return ClusteringsOverK(get_algorithm(self.algorithm), similarity, normalize=self.normalize)

    def decide_k(self, points: Sequence[HintPoint], clusterings: ClusteringsOverK) -> KChoice:
        """The number of hint points, and the reason if it was chosen automatically (else empty).

        Args:
            points: the layers of the similarity.
            clusterings: of that similarity; computed further only for ``k="auto"``.
        """
        if self.k == AUTO:
            return choose_k(clusterings.inertias, clusterings.silhouettes)
        return KChoice(default_k(points) if self.k is None else int(self.k), "")

    def origin(self, choice: KChoice) -> dict[str, object]:
        """Entries of ``HintPlan.origin``."""
        return {
            "k": choice.k,
            **({"k_reason": choice.reason} if choice.reason else {}),
            "algorithm": self.algorithm,
            "position": self.position,
            "normalize": self.normalize,
        }
