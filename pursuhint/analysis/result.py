"""What an analysis found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from pursuhint._util.atomic_files import make_folder
from pursuhint.analysis.storage import AnalysisFile, AnalysisSeconds, read_analysis, write_analysis
from pursuhint.clustering import Clustering
from pursuhint.clustering.agreement import Agreement
from pursuhint.clustering.stability import SelectionStability
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.plan import HintPlan
from pursuhint.hints.selection import HintSelector, StoredSimilarity
from pursuhint.similarity.layer_similarity import LayerSimilarity

__all__ = ["Analysis"]


@dataclass(frozen=True, eq=False)
class Analysis(HintSelector):
    """Similarity and clusters of a network's layers, and the hint points chosen from them.

    Attributes:
        network: name of the network.
        data: name of the data set.
        points: all candidates, in depth order.
        excluded: those whose features do not vary over the samples. They have no similarity to anything, and
            are in none of the matrices and clusterings.
        metrics: the metrics asked for; the first one chose the plan.
        similarities: by metric: those asked for, and those that these are clustered with.
        clustered_with: by metric of ``similarities``, the one that is clustered in its place, which is itself
            unless a layer's similarity to itself can be below 1.
        clusterings: by metric asked for, by algorithm: all algorithms at the plan's k.
        curves: by metric asked for, by algorithm: inertia for k = 2, 3, ... (to 8, and below the number of
            layers).
        silhouettes: the same with the mean silhouette in place of the inertia.
        plan: the hint points.
        num_samples: how many training images the network was run on.
        samples: their indices, as in ``Batch.indices``.
        seed: of the draw of those images.
        normalize: whether layers were given unit length before clustering.
        batch_size: images in a batch.
        pooling: how features became one vector a sample, as `pursuhint.features.get_pooling` takes it.
        device: where the network ran.
        autocast: the type in which it ran by automatic mixed precision, if it did.
        threads: CPU threads that torch used.
        seconds: where the time went.
        processes: how many processes shared the pass over the data.
        stability: by metric asked for, how often the same layers are chosen when images are left out.
        no_stability: if that was not found out, why; else empty.
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
    clustered_with: Mapping[str, str]
    clusterings: Mapping[str, Mapping[str, Clustering]]
    curves: Mapping[str, Mapping[str, Mapping[int, float]]]
    plan: HintPlan
    num_samples: int
    samples: Tensor
    seed: int
    normalize: bool
    batch_size: int
    device: str
    threads: int
    seconds: AnalysisSeconds
    silhouettes: Mapping[str, Mapping[str, Mapping[int, float]]] = field(default_factory=dict)
    pooling: str = "mean"
    autocast: str | None = None
    processes: int = 1
    stability: Mapping[str, SelectionStability] = field(default_factory=dict)
    no_stability: str = ""
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

    def stability_sentence(self, metric: str | None = None) -> str:
        """How sure the choice by a metric (the first one by default) is, in words.

        Raises:
            PursuhintError: certainty was not computed, or not for this metric.
        """
        metric = self.metrics[0] if metric is None else metric
        if metric not in self.stability:
            known = ", ".join(self.stability) or "none"
            raise PursuhintError(f"no certainty was computed for metric {metric!r}; there are: {known}")
        return self.stability[metric].sentence([point.position for point in self.candidates])

    def _of(self, table: Mapping[str, Mapping[str, Clustering]], metric: str) -> Mapping[str, Clustering]:
        if metric not in table:
            raise PursuhintError(f"metric {metric!r} was not analysed; there are {', '.join(table)}")
        return table[metric]

    def save(self, folder: Path | str) -> None:
        """Write ``hints.json``, ``analysis.npz`` and, when those are there, ``analysis.json``.

        The analysis of the features before the activations, if there is one, goes to the folder ``pre``.

        Raises:
            PursuhintError: the folder cannot be written.
        """
        folder = make_folder(folder)
        self.plan.save(folder / "hints.json")
        if self.pre is not None:
            self.pre.save(folder / "pre")
        file = AnalysisFile(
            network=self.network,
            data=self.data,
            points=list(self.points),
            excluded=[point.module for point in self.excluded],
            metrics=list(self.metrics),
            similarities=list(self.similarities),
            clustered_with=dict(self.clustered_with),
            clusterings={metric: dict(found) for metric, found in self.clusterings.items()},
            curves=_plain(self.curves),
            silhouettes=_plain(self.silhouettes),
            num_samples=self.num_samples,
            seed=self.seed,
            normalize=self.normalize,
            batch_size=self.batch_size,
            device=self.device,
            threads=self.threads,
            seconds=self.seconds,
            pooling=self.pooling,
            autocast=self.autocast,
            processes=self.processes,
            stability=dict(self.stability),
            no_stability=self.no_stability,
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
            "stability": {metric: self.stability_sentence(metric) for metric in self.stability},
            "agreements": [agreement.sentence() for agreement in self.agreements],
        }
        write_analysis(folder, file, summary, self.similarities, self.samples)

    @classmethod
    def load(cls, folder: Path | str) -> Analysis:
        """Read what `save` wrote.

        Raises:
            PursuhintError: a file is missing, damaged, or does not fit the others.
        """
        folder = Path(folder)
        file, similarities, samples = read_analysis(folder)
        return cls(
            network=file.network,
            data=file.data,
            points=tuple(file.points),
            excluded=tuple(point for point in file.points if point.module in file.excluded),
            metrics=tuple(file.metrics),
            similarities={metric: _tensors(similarity) for metric, similarity in similarities.items()},
            clustered_with=file.clustered_with,
            clusterings=file.clusterings,
            curves=file.curves,
            plan=HintPlan.load(folder / "hints.json"),
            num_samples=file.num_samples,
            samples=torch.from_numpy(samples),
            seed=file.seed,
            normalize=file.normalize,
            batch_size=file.batch_size,
            device=file.device,
            threads=file.threads,
            seconds=file.seconds,
            silhouettes=file.silhouettes,
            pooling=file.pooling,
            autocast=file.autocast,
            processes=file.processes,
            stability=file.stability,
            no_stability=file.no_stability,
            agreements=tuple(file.agreements),
            pre=cls.load(folder / "pre") if file.with_pre else None,
        )


def _tensors(stored: StoredSimilarity) -> LayerSimilarity:
    values, left_out, halves = (
        None if array is None else torch.from_numpy(array)
        for array in (stored.values, stored.left_out, stored.halves)
    )
    assert values is not None
    return LayerSimilarity(stored.points, values, stored.metric, stored.num_samples, left_out, halves)


def _plain(
    curves: Mapping[str, Mapping[str, Mapping[int, float]]],
) -> dict[str, dict[str, dict[int, float]]]:
    return {
        metric: {algorithm: dict(curve) for algorithm, curve in found.items()}
        for metric, found in curves.items()
    }
