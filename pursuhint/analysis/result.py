"""The result of an analysis, saved to and loaded from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pursuhint._util.atomic_files import make_folder
from pursuhint._util.output_folder import remove_leftovers
from pursuhint._util.shown import Shown
from pursuhint.analysis.auto_samples import AutoSampling
from pursuhint.analysis.findings import (
    AnalysisSeconds,
    AnalyzedLayers,
    ChoiceRobustness,
    ClassCurves,
    LayerClusters,
)
from pursuhint.analysis.provenance import Provenance
from pursuhint.analysis.selector import HintSelector
from pursuhint.analysis.storage import (
    AnalysisFile,
    check_analysis_folder,
    read_analysis,
    write_arrays,
    write_findings,
)
from pursuhint.clustering.result import Clustering
from pursuhint.errors import PursuhintError
from pursuhint.hints.plan import HintPlan
from pursuhint.hints.selection import StoredSimilarity
from pursuhint.similarity.layer_similarity import LayerSimilarity

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Analysis"]


@dataclass(frozen=True, eq=False, repr=False)
class Analysis(Shown, HintSelector):
    """Similarity and clusters of a network's layers, and the hint points chosen from them.

    Attributes:
        provenance: network, data and settings.
        layers: the layers, and those that could not be compared.
        similarities: by metric: those asked for, and those that these are clustered with.
        clusters: clusterings by every metric and algorithm.
        plan: the hint points.
        robustness: whether other images, metrics or activations lead to the same hint points.
        seconds: where the time went.
        samples: indices of the images, as in ``Batch.indices``.
        class_curves: what each layer says about the classes; None for data without classes.
        no_class_curves: why there are none; empty if there are, and in analyses of older versions.
        auto: how the pass came to its end, if it took as many images as it needed; None for a fixed number.
        pre: the same network's features before the activations, if both were analysed.
    """

    provenance: Provenance
    layers: AnalyzedLayers
    similarities: Mapping[str, LayerSimilarity]
    clusters: LayerClusters
    plan: HintPlan
    robustness: ChoiceRobustness
    seconds: AnalysisSeconds
    samples: Tensor
    class_curves: ClassCurves | None = None
    no_class_curves: str = ""
    auto: AutoSampling | None = None
    pre: Analysis | None = None

    def _headline(self) -> str:
        hints = ", ".join(str(point.position) for point in self.plan.teacher_points)
        return (
            f"{self.provenance.network} on {self.provenance.data}, {self.provenance.num_samples} images, "
            f"{len(self.candidates)} layers, {', '.join(self.metrics)}; hints at {hints}"
        )

    def _draw(self, axes: Axes) -> None:
        similarity = self.similarities[self.metrics[0]]
        similarity._draw(axes)
        positions = [point.position for point in similarity.points]
        at = [positions.index(p.position) for p in self.plan.teacher_points if p.position in positions]
        axes.plot(at, at, "o", color="white", markeredgecolor="black", label="hints")
        axes.legend(loc="lower right")

    def _rows(self) -> list[dict[str, Any]]:
        hints = {point.position for point in self.plan.teacher_points}
        clusterings = {
            f"cluster_{metric}_{name}": found.labels
            for metric, algorithms in self.clusters.clusterings.items()
            for name, found in algorithms.items()
        }
        return [
            {
                "position": point.position,
                "module": point.module,
                "activation": point.activation,
                "channels": point.channels,
                "stage": point.stage,
                "hint": point.position in hints,
                **{name: labels[index] for name, labels in clusterings.items()},
            }
            for index, point in enumerate(self.candidates)
        ]

    @property
    def images_per_second(self) -> float:
        """Speed of the pass over the data."""
        return self.provenance.num_samples / self.seconds.collect

    def finished(self) -> Analysis:
        """A copy whose provenance ends now, and whose plan says which network it was chosen from."""
        provenance = self.provenance.finished()
        return replace(self, provenance=provenance, plan=replace(self.plan, provenance=provenance.shared()))

    def gap(self, metric: str) -> float | None:
        """How far k-means is from the best contiguous partition, as a fraction of the latter's inertia.

        Zero when it found that partition; below zero when it found a better one that is not contiguous. None
        where the fraction has no meaning: the best inertia is not positive (the similarities are not positive
        semi-definite), or there are too few images for the metric.

        Raises:
            PursuhintError: the metric was not analysed.
        """
        if metric not in self.clusters.clusterings:
            raise PursuhintError(f"metric {metric!r} was not analysed; there are {', '.join(self.metrics)}")
        if metric in self.robustness.too_few_samples:
            return None
        found = self.clusters.clusterings[metric]
        if found["kmeans"].labels == found["segments"].labels:
            return 0.0
        best = found["segments"].inertia
        return (found["kmeans"].inertia - best) / best if best > 0 else None

    def stability_sentence(self, metric: str | None = None) -> str:
        """Stability of the choice under resampling of images, in words.

        Args:
            metric: one of those analyzed; default: the first.

        Raises:
            PursuhintError: the stability was not estimated, or not for this metric.
        """
        metric = self.metrics[0] if metric is None else metric
        stability = self.robustness.stability
        if metric not in stability:
            known = ", ".join(stability) or "none"
            raise PursuhintError(f"no stability was estimated for metric {metric!r}; there are: {known}")
        return stability[metric].sentence([point.position for point in self.candidates])

    def positions_of(self, clustering: Clustering) -> list[list[int]]:
        """Positions of the layers in each cluster.

        Args:
            clustering: of the candidates.
        """
        return [
            [self.candidates[layer].position for layer in clustering.members(cluster)]
            for cluster in range(clustering.k)
        ]

    def summary(self) -> dict[str, Any]:
        """The findings as plain values, which JSON can hold: what ``pursuhint analyze --json`` prints.

        ``kmeans_above_optimum`` is `gap` by metric. ``over_forward`` is a fraction of the forward pass, the
        other times are seconds; ``together`` and ``frequency`` are shares of half-samples.
        """
        agreement = self.choice_agreement(self.plan)
        return {
            "network": self.provenance.network,
            "data": self.provenance.data,
            "samples": self.provenance.num_samples,
            "auto_samples": None if self.auto is None else self.auto.values(),
            "layers": len(self.candidates),
            "excluded": [point.module for point in self.layers.excluded],
            "hint_positions": [point.position for point in self.plan.teacher_points],
            "hint_points": [point.module for point in self.plan.teacher_points],
            "seconds": {
                "collect": self.seconds.collect,
                "forward": self.seconds.forward,
                "over_forward": self.seconds.over_forward,
                "stability": sum(self.seconds.stability.values()),
            },
            "clusterings": {
                metric: {
                    name: {
                        "inertia": clustering.inertia,
                        "contiguous": clustering.contiguous,
                        "clusters": self.positions_of(clustering),
                    }
                    for name, clustering in algorithms.items()
                }
                for metric, algorithms in self.clusters.clusterings.items()
            },
            "kmeans_above_optimum": {metric: self.gap(metric) for metric in self.metrics},
            "k_reason": self.plan.origin.get("k_reason"),
            "stability": {
                metric: {
                    "sentence": self.stability_sentence(metric),
                    "together": stability.together,
                    "frequency": self.frequencies(stability),
                }
                for metric, stability in self.robustness.stability.items()
            },
            "no_stability": self.robustness.no_stability or None,
            "agreements": [agreement.sentence() for agreement in self.robustness.agreements],
            "too_few_samples": {
                metric: self.robustness.too_few_samples[metric].sentence()
                for metric in self.metrics
                if metric in self.robustness.too_few_samples
            },
            "agreement_of_ways": agreement and agreement.values(),
        }

    def save(self, folder: Path | str, *, overwrite: bool = False) -> None:
        """Write ``analysis.npz``, ``hints.json`` and, when those are there, ``analysis.json``.

        The analysis of the features before the activations, if there is one, goes to the folder ``pre``.

        Args:
            folder: a folder of its own, or one that holds an analysis of the same network and data.
            overwrite: replace an analysis of another network or other data.

        Raises:
            PursuhintError: the folder holds something else, or cannot be written.
        """
        check_analysis_folder(
            folder,
            network=self.provenance.network,
            fingerprint=self.provenance.network_fingerprint,
            data=self.provenance.data,
            overwrite=overwrite,
        )
        folder = make_folder(folder)
        remove_leftovers(folder)
        if self.pre is not None:
            self.pre.save(folder / "pre", overwrite=overwrite)
        file = AnalysisFile(
            provenance=self.provenance,
            layers=self.layers,
            similarities=list(self.similarities),
            clusters=self.clusters,
            robustness=self.robustness,
            seconds=self.seconds,
            with_pre=self.pre is not None,
            class_curves=self.class_curves,
            no_class_curves=self.no_class_curves,
            auto=self.auto,
        )
        agreement = self.choice_agreement(self.plan)
        better = None if agreement is None else agreement.better
        summary = {
            "images_per_second": self.images_per_second,
            "auto_samples": None if self.auto is None else self.auto.sentence(),
            "hint_points": [str(point) for point in self.plan.teacher_points],
            "gap": {metric: self.gap(metric) for metric in self.metrics},
            "contiguous": {
                metric: {name: clustering.contiguous for name, clustering in found.items()}
                for metric, found in self.clusters.clusterings.items()
            },
            "too_few_samples": {
                metric: found.sentence() for metric, found in self.robustness.too_few_samples.items()
            },
            "better_partition": None if agreement is None or better is None else better.sentence(),
            "agreement_of_ways": None if agreement is None else agreement.sentence(),
            "stability": {metric: self.stability_sentence(metric) for metric in self.robustness.stability},
            "agreements": [agreement.sentence() for agreement in self.robustness.agreements],
        }
        write_arrays(folder / "analysis.npz", self.similarities, self.samples)
        self.plan.save(folder / "hints.json")
        write_findings(folder / "analysis.json", file, summary)

    @classmethod
    def load(cls, folder: Path | str) -> Analysis:
        """Read what `save` wrote.

        Raises:
            PursuhintError: a file is missing, damaged, or does not fit the others.
        """
        folder = Path(folder)
        file, similarities, samples = read_analysis(folder)
        return cls(
            provenance=file.provenance,
            layers=file.layers,
            similarities={metric: _tensors(similarity) for metric, similarity in similarities.items()},
            clusters=file.clusters,
            plan=HintPlan.load(folder / "hints.json"),
            robustness=file.robustness,
            seconds=file.seconds,
            samples=torch.from_numpy(samples),
            class_curves=file.class_curves,
            no_class_curves=file.no_class_curves,
            auto=file.auto,
            pre=cls.load(folder / "pre") if file.with_pre else None,
        )


def _tensors(stored: StoredSimilarity) -> LayerSimilarity:
    values, left_out, halves = (
        None if array is None else torch.from_numpy(array)
        for array in (stored.values, stored.left_out, stored.halves)
    )
    assert values is not None
    return LayerSimilarity(stored.points, values, stored.metric, stored.num_samples, left_out, halves)
