"""Selection of hint points from computed similarities.

It needs neither the network nor torch, so that re-selecting from the files of an analysis is fast.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from numpy.typing import NDArray

from pursuhint.clustering import get_algorithm
from pursuhint.clustering.inertia import Matrix, Similarity
from pursuhint.clustering.stability import SelectionStability, selection_stability
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.plan import HintPlan, SimilarityLike, choose_positions

__all__ = ["HintSelector", "Resampled", "StoredSimilarity", "choose_plan", "stability_of_choice"]


class Resampled(SimilarityLike, Protocol):
    """Similarities of layers, with those of resampled images if they were computed."""

    @property
    def left_out(self) -> Similarity | None:
        """Each with one shard of the images left out, (shards, layers, layers)."""

    @property
    def halves(self) -> Similarity | None:
        """From random halves of the shards, (halves, layers, layers)."""


@dataclass(frozen=True, eq=False)
class StoredSimilarity:
    """The contents of a `pursuhint.similarity.LayerSimilarity` as NumPy arrays, as stored in a file."""

    points: tuple[HintPoint, ...]
    values: Matrix
    metric: str
    num_samples: int
    left_out: NDArray[Any] | None = None
    halves: NDArray[Any] | None = None


class HintSelector:
    """Base of classes that select hint points: an analysis in memory, or one stored in files.

    Attributes:
        metrics: the metrics asked for; the first one is the default.
        similarities: by metric: those asked for, and those that these are clustered with.
        clustered_with: by metric of ``similarities``, the one that is clustered in its place, which is itself
            unless a layer's similarity to itself can be below 1.
        normalize: whether layers are given unit length before clustering, by default.
        seed: of the draw of the images.
    """

    metrics: tuple[str, ...]
    similarities: Mapping[str, Resampled]
    clustered_with: Mapping[str, str]
    normalize: bool
    seed: int

    def select(
        self,
        *,
        k: int | Literal["auto"] | None = None,
        metric: str | None = None,
        algorithm: str = "kmeans",
        position: str = "center",
        normalize: bool | None = None,
    ) -> HintPlan:
        """Choose hint points anew from the same similarities, without the network.

        Args:
            k: number of hint points, or ``"auto"``; default: `pursuhint.hints.default_k`.
            metric: one of those analysed; default: the first.
            algorithm: see `pursuhint.clustering.ALGORITHMS`.
            position: see `pursuhint.hints.choose_positions`.
            normalize: see `pursuhint.clustering.kmeans`; default: as in this analysis.

        Raises:
            PursuhintError: the metric was not analysed, a name is unknown or k is out of range.
        """
        metric = self.metrics[0] if metric is None else metric
        return choose_plan(
            self._similarity_for(metric),
            metric,
            k,
            algorithm,
            position,
            self.normalize if normalize is None else normalize,
            self.seed,
        )

    def selection_stability(
        self,
        *,
        k: int,
        metric: str | None = None,
        algorithm: str = "kmeans",
        position: str = "center",
        normalize: bool | None = None,
    ) -> SelectionStability | None:
        """Stability of another selection from the same similarities.

        Args:
            k: number of hint points.
            metric: see `select`, also for the parameters that follow.

        Returns:
            None if certainty was switched off when the network was analysed.

        Raises:
            PursuhintError: as `select`.
        """
        similarity = self._similarity_for(self.metrics[0] if metric is None else metric)
        normalize = self.normalize if normalize is None else normalize
        return stability_of_choice(similarity, k, algorithm, position, normalize)

    def _similarity_for(self, metric: str) -> Resampled:
        if metric not in self.similarities:
            raise PursuhintError(
                f"metric {metric!r} was not analysed; there are {', '.join(self.similarities)}"
            )
        return self.similarities[self.clustered_with[metric]]


def choose_plan(
    similarity: SimilarityLike,
    metric: str,
    k: int | Literal["auto"] | None,
    algorithm: str,
    position: str,
    normalize: bool,
    seed: int,
) -> HintPlan:
    """Hint points by a metric.

    Args:
        similarity: what is clustered, which need not be by the metric itself.
        metric: its name; see `HintSelector.select` for all that follow.
        seed: of the draw of the images.

    Raises:
        PursuhintError: as `HintSelector.select`.
    """
    plan = HintPlan.choose(similarity, k=k, algorithm=algorithm, position=position, normalize=normalize)
    more = {"metric": metric, "clustered_with": similarity.metric, "seed": seed}
    return HintPlan(plan.pairs, {**plan.origin, **more})


def stability_of_choice(
    similarity: Resampled, k: int, algorithm: str, position: str, normalize: bool
) -> SelectionStability | None:
    """How often the same layers are chosen when images are left out; None if that cannot be known.

    Args:
        similarity: what is clustered, with its resampled matrices.
        k: number of hint points.
        algorithm: a name of `pursuhint.clustering.ALGORITHMS`.
        position: see `pursuhint.hints.choose_positions`.
        normalize: see `pursuhint.clustering.kmeans`.

    Raises:
        PursuhintError: a name is unknown or k is out of range.
    """
    cluster = get_algorithm(algorithm)

    def choose(values: Matrix) -> tuple[int, ...]:
        return choose_positions(cluster(values, k, normalize=normalize), position, values)

    if similarity.left_out is None or similarity.halves is None:
        return None
    return selection_stability(choose, similarity.values, similarity.left_out, similarity.halves)
