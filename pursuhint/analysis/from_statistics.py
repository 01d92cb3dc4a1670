"""From the statistics of layers to their similarities, clusters and hint positions."""

from __future__ import annotations

import time
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from pursuhint._util.timing import CollectSeconds
from pursuhint.analysis.auto_samples import AutoSampling
from pursuhint.analysis.collection_plan import Collected, Shards
from pursuhint.analysis.findings import (
    AnalysisSeconds,
    AnalyzedLayers,
    ChoiceRobustness,
    ClassCurves,
    LayerClusters,
)
from pursuhint.analysis.provenance import Provenance
from pursuhint.analysis.result import Analysis
from pursuhint.analysis.ridge_choices import choices_over_ridges
from pursuhint.analysis.sample_size import TooFewSamples
from pursuhint.clustering import Clustering, get_algorithm, installed_algorithms
from pursuhint.clustering.agreement import Agreement, rand_index, rank_correlation
from pursuhint.clustering.cluster_count import ClusteringsOverK
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.options import SelectionOptions
from pursuhint.hints.plan import choose_positions
from pursuhint.hints.selection import choose_plan, stability_of_choice
from pursuhint.similarity import NORMALIZED
from pursuhint.similarity.accumulators.base import LayerStatistics
from pursuhint.similarity.accumulators.moments import LayerMoments
from pursuhint.similarity.accumulators.pooled_features import PooledFeatures
from pursuhint.similarity.accumulators.shards import RowShards
from pursuhint.similarity.class_structure import ClassStructure, class_structures
from pursuhint.similarity.knowledge_quality import knowledge_quality
from pursuhint.similarity.layer_similarity import LayerSimilarity
from pursuhint.similarity.metric import Metric
from pursuhint.similarity.resampling import Resampled, cheapest, resample

_RIDGE_CCA = "ridge-cca"
_FROM_SUMS = tuple(field.name for field in fields(ClassStructure))


@dataclass(frozen=True)
class AnalysisRequest:
    """What to compute from the statistics of layers.

    Attributes:
        metrics: names of the metrics asked for; the first one chooses the plan.
        computed: the metrics to compute: those asked for, each with the one that it is clustered with.
        selection: how hint points are chosen.
        no_stability: why the stability of the choice is not estimated; empty if it is.
        too_few_samples: the computed metrics with too few samples for the width of the layers; their
            stability is not estimated.
    """

    metrics: tuple[str, ...]
    computed: tuple[Metric, ...]
    selection: SelectionOptions
    no_stability: str = ""
    too_few_samples: Mapping[str, TooFewSamples] = field(default_factory=dict)

    @property
    def resampled(self) -> tuple[Metric, ...]:
        """The metrics to compute on subsamples: those that reliable metrics are clustered with, and these."""
        reliable = [name for name in self.metrics if name not in self.too_few_samples]
        names = {*reliable, *(NORMALIZED.get(name, name) for name in reliable)}
        return tuple(metric for metric in self.computed if metric.name in names)


def analyze_statistics(
    collected: Collected,
    request: AnalysisRequest,
    provenance: Provenance,
    *,
    samples: Tensor,
    spent: CollectSeconds,
) -> Analysis:
    """Compute similarities, clusterings and hint points from collected statistics.

    Args:
        collected: statistics of all layers.
        request: what to compute.
        provenance: network, data and settings of the pass.
        samples: indices of the samples, as in ``Batch.indices``.
        spent: time that the pass took.

    Raises:
        PursuhintError: too few layers vary over the samples for the number of hint points.
    """
    options = request.selection
    similarities, similarity_seconds, stability_seconds = _similarities(collected, request, provenance.seed)
    clustered_with = {
        name: NORMALIZED.get(name, name) if options.normalize else name for name in similarities
    }
    clustered = {metric: similarities[clustered_with[metric]] for metric in request.metrics}
    over_k, clustering_seconds = _clusterings(clustered)
    first = request.metrics[0]
    plan = choose_plan(
        clustered[first], options, over_k[first][options.algorithm], metric=first, seed=provenance.seed
    )
    k = plan.origin["k"]
    clusterings, stability = {}, {}
    for metric, similarity in clustered.items():
        began = time.perf_counter()
        clusterings[metric] = {name: found.at(k) for name, found in over_k[metric].items()}
        clustering_seconds[metric] += time.perf_counter() - began
        began = time.perf_counter()
        chosen = choose_positions(clusterings[metric][options.algorithm], options.position, similarity.values)
        found_stability = stability_of_choice(similarity, chosen, options)
        if found_stability is not None:
            stability[metric] = found_stability
            spent_before = stability_seconds.get(metric, 0.0)
            stability_seconds[metric] = spent_before + time.perf_counter() - began
    kept = set(clustered[first].points)
    curves, why = _class_curves(collected, kept)
    ridges = None
    if _RIDGE_CCA in request.metrics:
        began = time.perf_counter()
        ridges = choices_over_ridges(
            collected.statistics,
            collected.points,
            [i for i, point in enumerate(collected.points) if point in kept],
            options,
            k,
        )
        similarity_seconds[_RIDGE_CCA] += time.perf_counter() - began
    return Analysis(
        provenance=provenance,
        layers=AnalyzedLayers(
            collected.points, tuple(point for point in collected.points if point not in kept)
        ),
        similarities=similarities,
        clusters=LayerClusters(
            metrics=request.metrics,
            clustered_with=clustered_with,
            normalize=options.normalize,
            clusterings=clusterings,
            curves={m: {name: each.inertias for name, each in of.items()} for m, of in over_k.items()},
            silhouettes={
                m: {name: each.silhouettes for name, each in of.items()} for m, of in over_k.items()
            },
        ),
        plan=plan,
        robustness=ChoiceRobustness(
            stability,
            request.no_stability,
            _between_metrics(clustered, clusterings, options),
            request.too_few_samples,
            ridges,
        ),
        seconds=AnalysisSeconds(
            spent.total,
            spent.data,
            spent.forward,
            spent.accumulate,
            similarity_seconds,
            clustering_seconds,
            stability_seconds,
        ),
        samples=samples,
        class_curves=curves,
        no_class_curves=why,
    )


def _class_curves(collected: Collected, kept: Container[HintPoint]) -> tuple[ClassCurves | None, str]:
    """What the layers that vary say about the classes, or why that is unknown."""
    statistics = collected.statistics
    if collected.classes is None:
        return None, "the data have fewer than two classes; take data with labels"
    assert isinstance(statistics, LayerMoments | PooledFeatures)
    every = class_structures(statistics, collected.classes)
    if not every:
        return None, (
            "its images are of fewer than two classes, or some have none; take images of all classes "
            "(--samples)"
        )
    layers = [layer for layer, point in enumerate(collected.points) if point in kept]
    curves = {name: tuple(getattr(every[layer], name) for layer in layers) for name in _FROM_SUMS}
    return ClassCurves(**curves, quality=_qualities(collected, statistics.blocks, layers)), ""


def _qualities(
    collected: Collected, blocks: Sequence[slice], layers: Sequence[int]
) -> tuple[float | None, ...] | None:
    """Knowledge quality of some layers; None if no features were kept."""
    if collected.rows is None:
        return None
    features, labels = collected.rows.there()
    if int((labels.bincount() > 1).sum()) < 2:
        return (None,) * len(layers)
    return tuple(knowledge_quality(features[:, blocks[layer]], labels).quality for layer in layers)


def with_sampling(analysis: Analysis, auto: AutoSampling) -> Analysis:
    """Say how the pass came to its end; its looks count as time for the stability of the choice."""
    stability = dict(analysis.seconds.stability)
    stability[analysis.metrics[0]] = stability.get(analysis.metrics[0], 0.0) + auto.seconds
    return replace(analysis, auto=auto, seconds=replace(analysis.seconds, stability=stability))


def with_pre(post: Analysis, pre: Analysis, selection: SelectionOptions) -> Analysis:
    """Join the analyses of the features after and before the activations.

    Their agreement is computed for each metric, over the layers that vary on both sides.

    Args:
        post: after the activations.
        pre: before them, with as many hint points.
        selection: how hint points were chosen in both.

    Returns:
        ``post`` with ``pre`` and with the agreements between the two.
    """
    places = [{point.position: i for i, point in enumerate(one.candidates)} for one in (post, pre)]
    common = sorted(places[0].keys() & places[1].keys())
    layers = [[place[position] for position in common] for place in places]
    agreements = []
    for metric in post.metrics:
        one, other = (
            _Choice.of(
                f"{metric} {when} the activations",
                analysis.similarities[analysis.clusters.clustered_with[metric]],
                analysis.clusters.clusterings[metric][selection.algorithm],
                position=selection.position,
            ).on(kept)
            for when, analysis, kept in (("after", post, layers[0]), ("before", pre, layers[1]))
        )
        agreements.append(_agreement(one, other))
    robustness = replace(post.robustness, agreements=(*post.robustness.agreements, *agreements))
    return replace(post, pre=pre, robustness=robustness)


@dataclass(frozen=True)
class _Choice:
    """One way of choosing hint points, to compare with another.

    Attributes:
        name: of the way, for sentences.
        values: (layers, layers), the similarity that was clustered.
        labels: cluster of each layer.
        positions: of the hint points.
    """

    name: str
    values: Tensor
    labels: tuple[int, ...]
    positions: tuple[int, ...]

    @classmethod
    def of(cls, name: str, similarity: LayerSimilarity, clustering: Clustering, *, position: str) -> _Choice:
        chosen = choose_positions(clustering, position, similarity.values)
        positions = tuple(similarity.points[layer].position for layer in chosen)
        return cls(name, similarity.values, clustering.labels, positions)

    def on(self, layers: Sequence[int]) -> _Choice:
        """Similarities and clusters of some of the layers; the hint points stay."""
        index = torch.tensor(layers, dtype=torch.long)
        labels = tuple(self.labels[layer] for layer in layers)
        return replace(self, values=self.values[index][:, index], labels=labels)


def _between_metrics(
    clustered: Mapping[str, LayerSimilarity],
    clusterings: Mapping[str, Mapping[str, Clustering]],
    options: SelectionOptions,
) -> tuple[Agreement, ...]:
    choices = [
        _Choice.of(metric, similarity, clusterings[metric][options.algorithm], position=options.position)
        for metric, similarity in clustered.items()
    ]
    return tuple(_agreement(one, other) for one, other in combinations(choices, 2))


def _agreement(one: _Choice, other: _Choice) -> Agreement:
    return Agreement(
        one.name,
        other.name,
        rand_index(one.labels, other.labels),
        rank_correlation(one.values, other.values),
        one.positions,
        other.positions,
    )


def _similarities(
    collected: Collected, request: AnalysisRequest, seed: int
) -> tuple[dict[str, LayerSimilarity], dict[str, float], dict[str, float]]:
    """Similarities of the layers that vary, seconds by metric, and seconds of resampling by metric.

    Raises:
        PursuhintError: too few layers vary over the samples for the number of hint points.
    """
    points, statistics, computed = collected.points, collected.statistics, request.computed
    stability_seconds: dict[str, float] = {}
    resampled: dict[str, Resampled] = {}
    whole: dict[str, tuple[Tensor, float]] = {}
    if collected.shards is not None:
        resampled, stability_seconds = _resampled(collected.shards, request.resampled, seed)
        # A metric of pairs of samples computes the matrix of all samples in the pass of the subsamples.
        for metric in request.resampled:
            matrix = resampled[metric.name].whole
            if metric.needs == "rows" and matrix is not None:
                whole[metric.name] = (matrix, stability_seconds.pop(metric.name))
    matrices, seconds = _matrices(statistics, [metric for metric in computed if metric.name not in whole])
    for name, (matrix, spent) in whole.items():
        matrices[name], seconds[name] = matrix, spent
    # A layer without variance has similarity 0 / 0 to itself.
    kept = [i for i in range(len(points)) if not any(m[i, i].isnan() for m in matrices.values())]
    _check_candidates(points, kept, request.selection.k)
    similarities = {}
    for metric in computed:
        subsamples = resampled.get(metric.name)
        similarities[metric.name] = LayerSimilarity(
            points,
            matrices[metric.name].cpu(),
            metric.name,
            statistics.count,
            None if subsamples is None else subsamples.left_out.float().cpu(),
            None if subsamples is None else subsamples.halves.float().cpu(),
        ).subset(kept)
    return similarities, seconds, stability_seconds


def _clusterings(
    clustered: Mapping[str, LayerSimilarity],
) -> tuple[dict[str, dict[str, ClusteringsOverK]], dict[str, float]]:
    """Clusterings by metric and algorithm, with their curves over k computed, and seconds by metric."""
    # Outside the loop, whose time is measured: importing an algorithm takes its own.
    algorithms = {name: get_algorithm(name) for name in installed_algorithms()}
    clusterings: dict[str, dict[str, ClusteringsOverK]] = {}
    seconds = {}
    for metric, similarity in clustered.items():
        began = time.perf_counter()
        clusterings[metric] = {
            name: ClusteringsOverK(cluster, similarity.values) for name, cluster in algorithms.items()
        }
        for found in clusterings[metric].values():
            _ = found.inertias, found.silhouettes  # both are kept; the stopwatch should see their time
        seconds[metric] = time.perf_counter() - began
    return clusterings, seconds


def _resampled(
    shards: Shards, metrics: Sequence[Metric], seed: int
) -> tuple[dict[str, Resampled], dict[str, float]]:
    """Matrices on subsamples, and seconds, by metric; shared work is divided among its metrics."""
    statistics = shards.rows if isinstance(shards, RowShards) else shards.moments
    resampled: dict[str, Resampled] = {}
    seconds: dict[str, float] = {}
    for needs in ("moments", "rows"):
        wanted = [metric for metric in metrics if metric.needs == needs]
        if not wanted:
            continue
        began = time.perf_counter()
        source = cheapest(shards, needs)
        for group in _shared(wanted, source):
            resampled |= resample(source, group, samples=statistics.count, seed=seed)
            now = time.perf_counter()
            for metric in group:
                seconds[metric.name] = (now - began) / len(group)
            began = now
    return resampled, seconds


def _shared(metrics: Sequence[Metric], shards: Shards) -> list[list[Metric]]:
    """Group metrics that share work: those computed subsample by subsample form one group."""
    alone = [[metric] for metric in metrics if metric.subsample_function(shards) is not None]
    together = [metric for metric in metrics if metric.subsample_function(shards) is None]
    return [*alone, together] if together else alone


def _matrices(
    layers: LayerStatistics, metrics: Sequence[Metric]
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Matrices and seconds by metric; shared work is divided among its metrics."""
    sharing = [metric for metric in metrics if metric.strips]
    began = time.perf_counter()
    layers.sweep(function for metric in sharing for function in metric.strips)
    shared = time.perf_counter() - began
    matrices, seconds = {}, {}
    for metric in metrics:
        began = time.perf_counter()
        matrices[metric.name] = metric.matrix(layers)
        seconds[metric.name] = time.perf_counter() - began
        if metric in sharing:
            seconds[metric.name] += shared / len(sharing)
    return matrices, seconds


def _check_candidates(
    points: Sequence[HintPoint], kept: Sequence[int], k: int | Literal["auto"] | None
) -> None:
    """Refuse k above the number of layers that vary, which only the pass over the data shows."""
    left = len(kept)
    enough = k if isinstance(k, int) else 2
    if left < enough:
        names = ", ".join(point.module for i, point in enumerate(points) if i not in kept)
        raise PursuhintError(
            f"only {left} of {len(points)} layers vary over the samples, too few for {enough} hint "
            f"points; these do not: {names}"
        )
