"""From a network and data to hint positions: similarity of all layers, clusters, and a plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn

from pursuhint.clustering import ALGORITHMS, Clustering, get_algorithm
from pursuhint.clustering.result import check_k
from pursuhint.collect import CollectSeconds, collect
from pursuhint.data import Batch, ImageData, make_loader, sample_indices
from pursuhint.errors import PursuhintError
from pursuhint.files import make_folder, read_json, write_json
from pursuhint.hints import HintPlan, check_position, default_k, validated
from pursuhint.points import Activation, HintPoint, find_hint_points
from pursuhint.similarity import get_metric
from pursuhint.similarity.layers import LayerSimilarity
from pursuhint.similarity.moments import LayerMoments

__all__ = ["Analysis", "AnalysisSeconds", "analyze"]

LARGEST_K_OF_CURVES = 8


@dataclass(frozen=True)
class AnalysisSeconds:
    """Where the time went, in seconds (the paper's Table 1 has the first and the last two, for its code).

    Attributes:
        collect: the whole pass over the data.
        data: waiting for batches.
        forward: running the network and averaging features over space.
        accumulate: adding features to the moments.
        similarity: by metric, from moments to a matrix.
        clustering: by metric asked for: all algorithms at the chosen k, and the inertia curves.
    """

    collect: float
    data: float
    forward: float
    accumulate: float
    similarity: dict[str, float]
    clustering: dict[str, float]

    @property
    def over_forward(self) -> float:
        """Everything that the analysis adds to the forward pass, as a fraction of the forward pass."""
        added = self.accumulate + sum(self.similarity.values()) + sum(self.clustering.values())
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
        plan: the hint points.
        num_samples: how many training images the network was run on.
        seed: of the draw of those images.
        normalise: whether layers were given unit length before clustering.
        batch_size: images in a batch.
        device: where the network ran.
        threads: CPU threads that torch used.
        seconds: where the time went.
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

    def _of(self, table: Mapping[str, Mapping[str, Clustering]], metric: str) -> Mapping[str, Clustering]:
        if metric not in table:
            raise PursuhintError(f"metric {metric!r} was not analysed; there are {', '.join(table)}")
        return table[metric]

    def select(
        self,
        *,
        k: int | None = None,
        metric: str | None = None,
        algorithm: str = "kmeans",
        position: str = "center",
        normalise: bool | None = None,
    ) -> HintPlan:
        """Choose hint points anew from the same similarities, without the network.

        Args:
            k: number of hint points; default: `pursuhint.hints.default_k`.
            metric: one of those analysed; default: the first.
            algorithm: see `pursuhint.clustering.ALGORITHMS`.
            position: see `pursuhint.hints.choose_positions`.
            normalise: see `pursuhint.clustering.kmeans.kmeans`; default: as in this analysis.

        Raises:
            PursuhintError: the metric was not analysed, a name is unknown or k is out of range.
        """
        metric = self.metrics[0] if metric is None else metric
        normalise = self.normalise if normalise is None else normalise
        if metric not in self.similarities:
            raise PursuhintError(
                f"metric {metric!r} was not analysed; there are {', '.join(self.similarities)}"
            )
        return _plan(self.similarities, metric, k, algorithm, position, normalise, self.seed)

    def save(self, folder: Path | str) -> None:
        """Write ``similarity-<metric>.npz``, ``hints.json`` and, when those are there, ``analysis.json``.

        Raises:
            PursuhintError: the folder cannot be written.
        """
        folder = make_folder(folder)
        for metric, similarity in self.similarities.items():
            similarity.save(folder / f"similarity-{metric}.npz")
        self.plan.save(folder / "hints.json")
        file = _AnalysisFile(
            network=self.network,
            data=self.data,
            points=list(self.points),
            excluded=[point.module for point in self.excluded],
            metrics=list(self.metrics),
            similarities=list(self.similarities),
            clusterings={metric: dict(found) for metric, found in self.clusterings.items()},
            curves={
                metric: {algorithm: dict(curve) for algorithm, curve in curves.items()}
                for metric, curves in self.curves.items()
            },
            num_samples=self.num_samples,
            seed=self.seed,
            normalise=self.normalise,
            batch_size=self.batch_size,
            device=self.device,
            threads=self.threads,
            seconds=self.seconds,
        )
        summary = {
            "images_per_second": self.images_per_second,
            "hint_points": [str(point) for point in self.plan.teacher_points],
            "gap": {metric: self.gap(metric) for metric in self.metrics},
            "contiguous": {
                metric: {name: clustering.contiguous for name, clustering in found.items()}
                for metric, found in self.clusterings.items()
            },
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
        )
        for metric, similarity in similarities.items():
            if similarity.points != analysis.candidates:
                raise PursuhintError(
                    f"similarity-{metric}.npz and analysis.json in {folder} list different layers"
                )
        return analysis


def analyze(
    network: nn.Module,
    data: ImageData,
    *,
    metrics: Sequence[str] = ("cka",),
    k: int | None = None,
    samples: int = 10_000,
    seed: int = 0,
    activation: Activation = "post",
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    workers: int = 0,
    include: Sequence[str] = (),
    position: str = "center",
    algorithm: str = "kmeans",
    normalise: bool = False,
    network_name: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Analysis:
    """Measure how alike a network's layers are, cluster them, and choose hint points.

    One pass over un-augmented training images gathers the moments of all layers together; every metric and
    every clustering follows from those. R2CCA gives a rank-deficient layer a similarity below 1 with itself,
    so layers are clustered with its rank-normalised form, and both matrices are reported. k-means (the
    paper's) and the best contiguous partition are always both computed, whichever chooses the plan.

    Args:
        network: the teacher; moved to ``device``, and otherwise left as it was.
        data: where samples are drawn from: the training split.
        metrics: names of `pursuhint.similarity.METRICS`; the first one chooses the plan.
        k: number of hint points, at least 2; default: `pursuhint.hints.default_k`.
        samples: how many images to draw, without replacement; all if there are fewer. The paper uses 10,000.
        seed: of the draw.
        activation: features after (``"post"``) or before (``"pre"``) the last activation of a sub-block.
        batch_size: images in a batch; does not change the result.
        device: where to run.
        workers: processes that decode image files; see `pursuhint.data.make_loader`.
        include: module-name patterns that replace the automatic choice of candidates; see
            `pursuhint.points.find_hint_points`.
        position: which member of a cluster becomes its hint point; see `pursuhint.hints.choose_positions`.
        algorithm: which clustering chooses the plan; a name of `pursuhint.clustering.ALGORITHMS`.
        normalise: give layers unit length before clustering; see `pursuhint.clustering.kmeans.kmeans`.
        network_name: what the analysis calls the network; default: the name of its class.
        on_progress: called after each batch with the number of samples done and the number in all.

    Raises:
        PursuhintError: a name is unknown, a number is out of range, there are fewer than two layers, or the
            network cannot run on the data; all before the pass over the data begins. After it: features are
            not finite, or too few layers vary for k hint points.
    """
    names = _metrics_to_compute(metrics)
    get_algorithm(algorithm)
    check_position(position)
    if samples < 2:
        raise PursuhintError(f"similarity needs at least 2 samples, got samples={samples}")
    indices = sample_indices(data, samples, seed)
    network = network.to(device)

    def batches_of(size: int, chosen: torch.Tensor, workers: int = 0) -> Iterator[Batch]:
        loader = make_loader(
            data,
            "train",
            batch_size=size,
            training=False,
            device=device,
            workers=workers,
            subset=chosen,
        )
        return loader.epoch(0)

    example = next(batches_of(1, indices[:1])).images
    points = find_hint_points(network, example, activation=activation, include=include)
    if len(points) < 2:
        raise PursuhintError(
            f"similarity needs at least 2 layers; {type(network).__name__} has only {points[0]}"
        )
    if k is not None:
        check_k(k, len(points))

    def on_batch(done: int) -> None:
        if on_progress is not None:
            on_progress(done, len(indices))

    spent = CollectSeconds()
    moments = collect(
        network,
        points,
        batches_of(batch_size, indices, workers),
        device=device,
        on_batch=on_batch,
        seconds=spent,
    )
    matrices, similarity_seconds = _matrices(moments, names)
    kept = [i for i in range(len(points)) if not any(m[i, i].isnan() for m in matrices.values())]
    excluded = tuple(point for i, point in enumerate(points) if i not in kept)
    k = _check_candidates([points[i] for i in kept], excluded, k)
    similarities = {
        name: LayerSimilarity(points, matrix.cpu(), name, moments.count).subset(kept)
        for name, matrix in matrices.items()
    }
    clusterings: dict[str, dict[str, Clustering]] = {}
    curves: dict[str, dict[str, dict[int, float]]] = {}
    clustering_seconds = {}
    for metric in dict.fromkeys(metrics):
        began = time.perf_counter()
        values = similarities[get_metric(metric).for_clustering].values
        clusterings[metric] = {}
        curves[metric] = {}
        for name in ALGORITHMS:
            cluster = get_algorithm(name)
            clusterings[metric][name] = cluster(values, k, normalise=normalise)
            curves[metric][name] = {
                count: cluster(values, count, normalise=normalise).inertia
                for count in range(2, min(len(kept) - 1, LARGEST_K_OF_CURVES) + 1)
            }
        clustering_seconds[metric] = time.perf_counter() - began
    return Analysis(
        network=type(network).__name__ if network_name is None else network_name,
        data=data.name,
        points=points,
        excluded=excluded,
        metrics=tuple(dict.fromkeys(metrics)),
        similarities=similarities,
        clusterings=clusterings,
        curves=curves,
        plan=_plan(similarities, metrics[0], k, algorithm, position, normalise, seed),
        num_samples=moments.count,
        seed=seed,
        normalise=normalise,
        batch_size=batch_size,
        device=str(device),
        threads=torch.get_num_threads(),
        seconds=AnalysisSeconds(
            spent.total, spent.data, spent.forward, spent.accumulate, similarity_seconds, clustering_seconds
        ),
    )


def _metrics_to_compute(metrics: Sequence[str]) -> tuple[str, ...]:
    """The metrics asked for, each followed by the one that it is clustered with."""
    if isinstance(metrics, str) or not metrics:
        raise PursuhintError(f"metrics must be one or more names in a list, got {metrics!r}")
    wanted = [name for metric in metrics for name in (metric, get_metric(metric).for_clustering)]
    return tuple(dict.fromkeys(wanted))


def _matrices(
    moments: LayerMoments, names: Sequence[str]
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    matrices, seconds = {}, {}
    for name in names:
        began = time.perf_counter()
        matrices[name] = get_metric(name).matrix(moments)
        seconds[name] = time.perf_counter() - began
    return matrices, seconds


def _check_candidates(candidates: Sequence[HintPoint], excluded: Sequence[HintPoint], k: int | None) -> int:
    """The number of hint points, once it is known which layers vary."""
    left = len(candidates)
    enough = 2 if k is None else k
    if left < enough:
        names = ", ".join(point.module for point in excluded)
        raise PursuhintError(
            f"only {left} of {left + len(excluded)} layers vary over the samples, too few for {enough} hint "
            f"points; these do not: {names}"
        )
    return default_k(candidates) if k is None else k


def _plan(
    similarities: Mapping[str, LayerSimilarity],
    metric: str,
    k: int | None,
    algorithm: str,
    position: str,
    normalise: bool,
    seed: int,
) -> HintPlan:
    clustered_with = get_metric(metric).for_clustering
    plan = HintPlan.choose(
        similarities[clustered_with], k=k, algorithm=algorithm, position=position, normalise=normalise
    )
    return HintPlan(
        plan.pairs, {**plan.origin, "metric": metric, "clustered_with": clustered_with, "seed": seed}
    )


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
