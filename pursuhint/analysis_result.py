"""What an analysis found, as an object and as files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from pursuhint.clustering import Clustering, get_algorithm
from pursuhint.clustering.agreement import Agreement
from pursuhint.clustering.stability import Certainty, certainty_of
from pursuhint.errors import PursuhintError
from pursuhint.files import make_folder, read_json, write_json
from pursuhint.hints import HintPlan, choose_positions, validated
from pursuhint.points import HintPoint
from pursuhint.similarity import get_metric
from pursuhint.similarity.layers import LayerSimilarity

__all__ = ["Analysis", "AnalysisSeconds", "certainty_of_choice", "choose_plan"]


@dataclass(frozen=True)
class AnalysisSeconds:
    """Where the time went, in seconds (the paper's Table 1 has the first and the last two, for its code).

    Attributes:
        collect: the whole pass over the data.
        data: waiting for batches.
        forward: running the network and averaging features over space.
        accumulate: adding features to the moments.
        similarity: by metric, from moments to a matrix.
        clustering: by metric asked for: all algorithms at the chosen k, and the curves over k.
        certainty: by metric, from the statistics of the parts to resampled matrices, and for those asked for
            the choices made again. Of a metric that compares all pairs of samples the matrices of all parts
            come from one pass over the pairs, which counts as similarity.
    """

    collect: float
    data: float
    forward: float
    accumulate: float
    similarity: dict[str, float]
    clustering: dict[str, float]
    certainty: dict[str, float] = field(default_factory=dict)

    @property
    def over_forward(self) -> float:
        """Everything that the analysis adds to the forward pass, as a fraction of the forward pass."""
        tables = (self.similarity, self.clustering, self.certainty)
        added = self.accumulate + sum(sum(table.values()) for table in tables)
        return added / self.forward


@dataclass(frozen=True, eq=False)
class Analysis:
    """Similarity and clusters of a network's layers, and the hint points chosen from them.

    Attributes:
        network: name of the network.
        data: name of the data set.
        points: all candidates, in depth order.
        excluded: those whose features do not vary over the samples. They have no similarity to anything, and
            are in none of the matrices and clusterings.
        metrics: the metrics asked for; the first one chose the plan.
        similarities: by metric: those asked for, and those that these are clustered with.
        clusterings: by metric asked for, by algorithm: all algorithms at the plan's k.
        curves: by metric asked for, by algorithm: inertia for k = 2, 3, ... (to 8, and below the number of
            layers).
        silhouettes: the same with the mean silhouette in place of the inertia.
        plan: the hint points.
        num_samples: how many training images the network was run on.
        seed: of the draw of those images.
        normalise: whether layers were given unit length before clustering.
        batch_size: images in a batch.
        pooling: how features became one vector a sample, as `pursuhint.pooling.get_pooling` takes it.
        device: where the network ran.
        threads: CPU threads that torch used.
        seconds: where the time went.
        processes: how many processes shared the pass over the data.
        certainty: by metric asked for, how often the same layers are chosen when images are left out; empty
            if that was switched off, or there were too few images.
        agreements: between the metrics asked for, and, for each, between features after and before the
            activations if both were analysed.
        pre: the same network's features before the activations, if both were analysed.
    """

    network: str
    data: str
    points: tuple[HintPoint, ...]
    excluded: tuple[HintPoint, ...]
    metrics: tuple[str, ...]
    similarities: Mapping[str, LayerSimilarity]
    clusterings: Mapping[str, Mapping[str, Clustering]]
    curves: Mapping[str, Mapping[str, Mapping[int, float]]]
    plan: HintPlan
    num_samples: int
    seed: int
    normalise: bool
    batch_size: int
    device: str
    threads: int
    seconds: AnalysisSeconds
    silhouettes: Mapping[str, Mapping[str, Mapping[int, float]]] = field(default_factory=dict)
    pooling: str = "mean"
    processes: int = 1
    certainty: Mapping[str, Certainty] = field(default_factory=dict)
    agreements: tuple[Agreement, ...] = ()
    pre: Analysis | None = None

    @property
    def candidates(self) -> tuple[HintPoint, ...]:
        """The layers of the matrices and clusterings."""
        return tuple(point for point in self.points if point not in self.excluded)

    @property
    def images_per_second(self) -> float:
        """Speed of the pass over the data."""
        return self.num_samples / self.seconds.collect

    def gap(self, metric: str) -> float:
        """How far k-means is from the best contiguous partition, as a fraction of the latter's inertia.

        Zero when it found that partition; below zero when it found a better one that is not contiguous.
        """
        found = self._of(self.clusterings, metric)
        best = found["segments"].inertia
        return (found["kmeans"].inertia - best) / best if best > 0 else 0.0

    def certainty_sentence(self, metric: str | None = None) -> str:
        """How sure the choice by a metric (the first one by default) is, in words.

        Raises:
            PursuhintError: certainty was not computed, or not for this metric.
        """
        metric = self.metrics[0] if metric is None else metric
        if metric not in self.certainty:
            known = ", ".join(self.certainty) or "none"
            raise PursuhintError(f"no certainty was computed for metric {metric!r}; there are: {known}")
        return self.certainty[metric].sentence([point.position for point in self.candidates])

    def certainty_of(
        self,
        *,
        k: int,
        metric: str | None = None,
        algorithm: str = "kmeans",
        position: str = "center",
        normalise: bool | None = None,
    ) -> Certainty | None:
        """How sure another choice from the same similarities is.

        Args:
            k: number of hint points.
            metric: as for `select`, like all that follow.

        Returns:
            None if certainty was switched off when the network was analysed.

        Raises:
            PursuhintError: as `select`.
        """
        similarity = self._similarity_for(self.metrics[0] if metric is None else metric)
        normalise = self.normalise if normalise is None else normalise
        return certainty_of_choice(similarity, k, algorithm, position, normalise)

    def _similarity_for(self, metric: str) -> LayerSimilarity:
        if metric not in self.similarities:
            raise PursuhintError(
                f"metric {metric!r} was not analysed; there are {', '.join(self.similarities)}"
            )
        return self.similarities[get_metric(metric).for_clustering]

    def _of(self, table: Mapping[str, Mapping[str, Clustering]], metric: str) -> Mapping[str, Clustering]:
        if metric not in table:
            raise PursuhintError(f"metric {metric!r} was not analysed; there are {', '.join(table)}")
        return table[metric]

    def select(
        self,
        *,
        k: int | Literal["auto"] | None = None,
        metric: str | None = None,
        algorithm: str = "kmeans",
        position: str = "center",
        normalise: bool | None = None,
    ) -> HintPlan:
        """Choose hint points anew from the same similarities, without the network.

        Args:
            k: number of hint points, or ``"auto"``; default: `pursuhint.hints.default_k`.
            metric: one of those analysed; default: the first.
            algorithm: see `pursuhint.clustering.ALGORITHMS`.
            position: see `pursuhint.hints.choose_positions`.
            normalise: see `pursuhint.clustering.kmeans.kmeans`; default: as in this analysis.

        Raises:
            PursuhintError: the metric was not analysed, a name is unknown or k is out of range.
        """
        metric = self.metrics[0] if metric is None else metric
        normalise = self.normalise if normalise is None else normalise
        self._similarity_for(metric)
        return choose_plan(self.similarities, metric, k, algorithm, position, normalise, self.seed)

    def save(self, folder: Path | str) -> None:
        """Write ``similarity-<metric>.npz``, ``hints.json`` and, when those are there, ``analysis.json``.

        The analysis of the features before the activations, if there is one, goes to the folder ``pre``.

        Raises:
            PursuhintError: the folder cannot be written.
        """
        folder = make_folder(folder)
        for metric, similarity in self.similarities.items():
            similarity.save(folder / f"similarity-{metric}.npz")
        self.plan.save(folder / "hints.json")
        if self.pre is not None:
            self.pre.save(folder / "pre")
        file = _AnalysisFile(
            network=self.network,
            data=self.data,
            points=list(self.points),
            excluded=[point.module for point in self.excluded],
            metrics=list(self.metrics),
            similarities=list(self.similarities),
            clusterings={metric: dict(found) for metric, found in self.clusterings.items()},
            curves=_plain(self.curves),
            silhouettes=_plain(self.silhouettes),
            num_samples=self.num_samples,
            seed=self.seed,
            normalise=self.normalise,
            batch_size=self.batch_size,
            device=self.device,
            threads=self.threads,
            seconds=self.seconds,
            pooling=self.pooling,
            processes=self.processes,
            certainty=dict(self.certainty),
            agreements=list(self.agreements),
            with_pre=self.pre is not None,
        )
        summary = {
            "images_per_second": self.images_per_second,
            "hint_points": [str(point) for point in self.plan.teacher_points],
            "gap": {metric: self.gap(metric) for metric in self.metrics},
            "contiguous": {
                metric: {name: clustering.contiguous for name, clustering in found.items()}
                for metric, found in self.clusterings.items()
            },
            "certainty": {metric: self.certainty_sentence(metric) for metric in self.certainty},
            "agreements": [agreement.sentence() for agreement in self.agreements],
        }
        write_json(
            folder / "analysis.json", {**file.model_dump(mode="json", by_alias=True), "summary": summary}
        )

    @classmethod
    def load(cls, folder: Path | str) -> Analysis:
        """Read what `save` wrote.

        Raises:
            PursuhintError: a file is missing, damaged, or does not fit the others.
        """
        folder = Path(folder)
        path = folder / "analysis.json"
        file = validated(_AnalysisFile, read_json(path, "analysis"), f"the analysis {path}")
        similarities = {
            metric: LayerSimilarity.load(folder / f"similarity-{metric}.npz") for metric in file.similarities
        }
        analysis = cls(
            network=file.network,
            data=file.data,
            points=tuple(file.points),
            excluded=tuple(point for point in file.points if point.module in file.excluded),
            metrics=tuple(file.metrics),
            similarities=similarities,
            clusterings=file.clusterings,
            curves=file.curves,
            plan=HintPlan.load(folder / "hints.json"),
            num_samples=file.num_samples,
            seed=file.seed,
            normalise=file.normalise,
            batch_size=file.batch_size,
            device=file.device,
            threads=file.threads,
            seconds=file.seconds,
            silhouettes=file.silhouettes,
            pooling=file.pooling,
            processes=file.processes,
            certainty=file.certainty,
            agreements=tuple(file.agreements),
            pre=cls.load(folder / "pre") if file.with_pre else None,
        )
        for metric, similarity in similarities.items():
            if similarity.points != analysis.candidates:
                raise PursuhintError(
                    f"similarity-{metric}.npz and analysis.json in {folder} list different layers"
                )
        return analysis


def choose_plan(
    similarities: Mapping[str, LayerSimilarity],
    metric: str,
    k: int | Literal["auto"] | None,
    algorithm: str,
    position: str,
    normalise: bool,
    seed: int,
) -> HintPlan:
    """Hint points by a metric, from the similarity that it is clustered with.

    Args:
        similarities: by metric.
        metric: which one; see `Analysis.select` for all that follow.

    Raises:
        PursuhintError: as `Analysis.select`.
    """
    clustered_with = get_metric(metric).for_clustering
    plan = HintPlan.choose(
        similarities[clustered_with], k=k, algorithm=algorithm, position=position, normalise=normalise
    )
    return HintPlan(
        plan.pairs, {**plan.origin, "metric": metric, "clustered_with": clustered_with, "seed": seed}
    )


def certainty_of_choice(
    similarity: LayerSimilarity, k: int, algorithm: str, position: str, normalise: bool
) -> Certainty | None:
    """How often the same layers are chosen when images are left out; None if that cannot be known.

    Args:
        similarity: what is clustered, with its resampled matrices.
        k: number of hint points.
        algorithm: a name of `pursuhint.clustering.ALGORITHMS`.
        position: see `pursuhint.hints.choose_positions`.
        normalise: see `pursuhint.clustering.kmeans.kmeans`.

    Raises:
        PursuhintError: a name is unknown or k is out of range.
    """
    cluster = get_algorithm(algorithm)

    def choose(values: Tensor) -> tuple[int, ...]:
        return choose_positions(cluster(values, k, normalise=normalise), position, values)

    if similarity.left_out is None or similarity.halves is None:
        return None
    return certainty_of(choose, similarity.values, similarity.left_out, similarity.halves)


class _AnalysisFile(BaseModel):
    """analysis.json. Its entry ``summary`` is for readers, and is computed again from the rest."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    network: str
    data: str
    points: list[HintPoint]
    excluded: list[str]
    metrics: list[str]
    similarities: list[str]
    clusterings: dict[str, dict[str, Clustering]]
    curves: dict[str, dict[str, dict[int, float]]]
    num_samples: int
    seed: int
    normalise: bool
    batch_size: int
    device: str
    threads: int
    seconds: AnalysisSeconds
    silhouettes: dict[str, dict[str, dict[int, float]]] = Field(default_factory=dict)
    pooling: str = "mean"
    processes: int = 1
    certainty: dict[str, Certainty] = Field(default_factory=dict)
    agreements: list[Agreement] = Field(default_factory=list)
    with_pre: bool = False


def _plain(
    curves: Mapping[str, Mapping[str, Mapping[int, float]]],
) -> dict[str, dict[str, dict[int, float]]]:
    return {
        metric: {algorithm: dict(curve) for algorithm, curve in found.items()}
        for metric, found in curves.items()
    }
