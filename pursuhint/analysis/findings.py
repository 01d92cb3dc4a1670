"""The groups of results that make up an analysis. They hold plain values and import no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pursuhint.analysis.sample_size import TooFewSamples
from pursuhint.clustering.agreement import Agreement
from pursuhint.clustering.result import Clustering
from pursuhint.clustering.stability import SelectionStability
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint

__all__ = [
    "AnalysisSeconds",
    "AnalyzedLayers",
    "ChoiceRobustness",
    "ClassCurves",
    "LayerClusters",
    "RidgeChoices",
]


@dataclass(frozen=True)
class AnalyzedLayers:
    """The layers of a network, and those that could not be compared.

    Attributes:
        points: all candidates, in depth order.
        excluded: those whose features do not vary over the samples. Their similarity is undefined, so no
            matrix and no clustering holds them.
    """

    points: tuple[HintPoint, ...]
    excluded: tuple[HintPoint, ...]

    @property
    def candidates(self) -> tuple[HintPoint, ...]:
        """The layers of the matrices and clusterings."""
        return tuple(point for point in self.points if point not in self.excluded)


@dataclass(frozen=True)
class LayerClusters:
    """Clusterings of the layers by every metric and algorithm.

    Attributes:
        metrics: the metrics asked for; the first one chose the plan.
        clustered_with: by metric of the similarities, the metric that is clustered in its place; itself
            unless ``normalize``.
        normalize: whether R2CCA by rank was clustered in place of R2CCA.
        clusterings: by metric asked for, by algorithm: all algorithms at the plan's k.
        curves: by metric asked for, by algorithm: inertia for k = 2, 3, ... (to 8, and below the number of
            layers).
        silhouettes: by metric asked for, by algorithm: mean silhouette for the k of the curves.
    """

    metrics: tuple[str, ...]
    clustered_with: Mapping[str, str]
    normalize: bool
    clusterings: Mapping[str, Mapping[str, Clustering]]
    curves: Mapping[str, Mapping[str, Mapping[int, float]]]
    silhouettes: Mapping[str, Mapping[str, Mapping[int, float]]]

    def __post_init__(self) -> None:
        if not self.metrics:
            raise PursuhintError("no metric is named")
        for metric in self.metrics:
            for name in ("clusterings", "curves", "silhouettes"):
                if not {"kmeans", "segments"} <= getattr(self, name).get(metric, {}).keys():
                    raise PursuhintError(f"{name} lacks kmeans or segments of {metric}")
            if metric not in self.clustered_with:
                raise PursuhintError(f"clustered_with lacks {metric}")


@dataclass(frozen=True)
class ClassCurves:
    """What the features of every candidate say about the classes; None where a number is not defined.

    Attributes:
        probe: share of the variance of the labels that a linear map of the features explains, corrected for
            the number of features.
        h_score: share of the variance between classes in the whitened features, 0 to 1.
        participation: how many directions hold the variance.
        collapse: variability within classes relative to between them; 0 for collapsed classes.
        quality: knowledge quality (arXiv 2511.14981), from single images; None if it was not asked for.
    """

    probe: tuple[float | None, ...]
    h_score: tuple[float | None, ...]
    participation: tuple[float | None, ...]
    collapse: tuple[float | None, ...]
    quality: tuple[float | None, ...] | None = None

    def by_name(self) -> dict[str, tuple[float | None, ...]]:
        """The curves that there are, by their names."""
        return {name: curve for name, curve in vars(self).items() if curve is not None}


@dataclass(frozen=True)
class RidgeChoices:
    """Hint positions by ridge CCA with several ridges, between CCA and CKA.

    Attributes:
        ridges: shares of a layer's variance, ascending from 0, which is Yanai's coefficient of CCA.
        positions: the hint positions with each, in depth order.
        cka: the hint positions by CKA, the limit of large ridges.
    """

    ridges: tuple[float, ...]
    positions: tuple[tuple[int, ...], ...]
    cka: tuple[int, ...]

    def sentence(self) -> str:
        """Up to which ridge the choice is that of CCA, and from which one that of CKA."""
        every, first = (*self.positions, self.cka), self.positions[0]
        if set(every) == {self.cka}:
            return f"the hint positions are {_listed(first)} with every ridge, from CCA to CKA"
        until = next(i for i, found in enumerate(every) if found != first) - 1
        since = len(every) - next(i for i, found in enumerate(reversed(every)) if found != self.cka)
        middle = len({*every[until + 1 : since]})
        between = f"; between them there are {middle} others" if middle > 1 else ""
        between = "; between them there is another one" if middle == 1 else between
        beginning = f"from {self.ridges[since]:g} on" if since < len(self.ridges) else "beyond all of these"
        return (
            f"up to a ridge of {self.ridges[until]:g} the hint positions are those of CCA "
            f"({_listed(first)}), {beginning} those of CKA ({_listed(self.cka)}){between}"
        )


def _listed(positions: tuple[int, ...]) -> str:
    return ", ".join(map(str, positions))


@dataclass(frozen=True)
class ChoiceRobustness:
    """Whether other images, metrics or activations lead to the same hint points.

    Attributes:
        stability: by metric asked for, how often the same layers are chosen when images are left out.
        no_stability: why the stability was not estimated; empty if it was.
        agreements: between the metrics asked for, and, for each, between features after and before the
            activations if both were analysed.
        too_few_samples: the metrics whose values are mostly chance with so few images, those that are
            clustered in the place of others among them. Their stability is not estimated.
        ridges: the choice by ridge CCA with other ridges; None unless that metric was asked for.
    """

    stability: Mapping[str, SelectionStability]
    no_stability: str
    agreements: tuple[Agreement, ...]
    too_few_samples: Mapping[str, TooFewSamples] = field(default_factory=dict)
    ridges: RidgeChoices | None = None


@dataclass(frozen=True)
class AnalysisSeconds:
    """Where the time went, in seconds (the paper's Table 1 has the first and the last two, for its code).

    Attributes:
        collect: the whole pass over the data.
        data: waiting for batches.
        forward: running the network and pooling its features.
        accumulate: adding features to the moments.
        similarity: by metric, from moments to a matrix.
        clustering: by metric asked for: all algorithms at the chosen k, and the curves over k.
        stability: by metric: resampled matrices from the statistics of the shards and, for the metrics asked
            for, the repeated choices. For a metric of all pairs of samples, the matrices of all shards come
            from one pass over the pairs, which counts as similarity.
    """

    collect: float
    data: float
    forward: float
    accumulate: float
    similarity: dict[str, float]
    clustering: dict[str, float]
    stability: dict[str, float] = field(default_factory=dict)

    @property
    def over_forward(self) -> float:
        """Everything that the analysis adds to the forward pass, as a fraction of the forward pass."""
        tables = (self.similarity, self.clustering, self.stability)
        added = self.accumulate + sum(sum(table.values()) for table in tables)
        return added / self.forward
