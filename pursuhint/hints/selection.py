"""Selection of hint points from computed similarities.

It needs neither the network nor torch, so that re-selecting from the files of an analysis is fast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from numpy.typing import NDArray

from pursuhint.clustering.cluster_count import ClusteringsOverK
from pursuhint.clustering.inertia import Matrix, Similarity
from pursuhint.clustering.stability import SelectionStability, selection_stability
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.options import SelectionOptions
from pursuhint.hints.plan import HintPlan, SimilarityLike, choose_positions

__all__ = ["Resampled", "StoredSimilarity", "choose_plan", "stability_of_choice"]


class Resampled(SimilarityLike, Protocol):
    """Similarities of layers, on all images and, if computed, on resampled images."""

    @property
    def left_out(self) -> Similarity | None:
        """Each with one shard of the images left out, (shards, layers, layers)."""

    @property
    def halves(self) -> Similarity | None:
        """From random halves of the shards, (halves, layers, layers)."""


@dataclass(frozen=True, eq=False)
class StoredSimilarity:
    """The contents of a `pursuhint.similarity.LayerSimilarity` as NumPy arrays, as stored in a file.

    Attributes:
        points: the layers, in depth order.
        values: (layers, layers).
        metric: name of the metric.
        num_samples: number of images that it was computed from.
        left_out: each with one shard of the images left out, (shards, layers, layers); None if not computed.
        halves: from random halves of the shards, (halves, layers, layers); None if not computed.
    """

    points: tuple[HintPoint, ...]
    values: Matrix
    metric: str
    num_samples: int
    left_out: NDArray[Any] | None = None
    halves: NDArray[Any] | None = None


def choose_plan(
    similarity: SimilarityLike,
    options: SelectionOptions,
    clusterings: ClusteringsOverK,
    *,
    metric: str,
    seed: int,
) -> HintPlan:
    """Choose hint points by the similarity of a metric.

    Args:
        similarity: the similarity that is clustered, which another metric may have computed.
        options: how to cluster and which layers to take.
        clusterings: of the similarity, from `SelectionOptions.clusterings`.
        metric: name of the metric.
        seed: of the draw of the images.

    Raises:
        PursuhintError: k is out of range, or the similarity is not finite.
    """
    choice = options.decide_k(similarity.points, clusterings)
    more = {"clustered_with": similarity.metric, "seed": seed}
    return HintPlan.from_clustering(
        similarity,
        clusterings.at(choice.k),
        position=options.position,
        origin={"metric": metric, **options.origin(choice), "num_samples": similarity.num_samples, **more},
    )


def stability_of_choice(
    similarity: Resampled, chosen: Sequence[int], options: SelectionOptions
) -> SelectionStability | None:
    """How often the same layers are chosen when images are left out; None without resampled similarities.

    Args:
        similarity: the similarity that was clustered, with its resampled matrices.
        chosen: the layers chosen from the similarity of all images, by index from 0.
        options: how they were chosen. The repeated choices take as many layers; ``k`` has no effect.
    """
    if similarity.left_out is None or similarity.halves is None:
        return None

    def choose(values: Matrix) -> tuple[int, ...]:
        clustering = options.clusterings(values).at(len(chosen))
        return choose_positions(clustering, options.position, values)

    return selection_stability(choose, chosen, similarity.left_out, similarity.halves)
