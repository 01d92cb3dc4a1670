"""From the statistics of layers to their similarities, clusters and hint positions."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from pursuhint._util.distributed import world_size
from pursuhint._util.timing import CollectSeconds
from pursuhint.analysis.collection_plan import Parts
from pursuhint.analysis.result import Analysis
from pursuhint.analysis.storage import AnalysisSeconds
from pursuhint.clustering import ALGORITHMS, Clustering, get_algorithm
from pursuhint.clustering.agreement import Agreement, rand_index, rank_correlation
from pursuhint.clustering.cluster_count import AUTO, choose_k, curves_over_k
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.plan import choose_positions, default_k
from pursuhint.hints.selection import choose_plan, stability_of_choice
from pursuhint.similarity import get_metric
from pursuhint.similarity.accumulators.base import LayerStatistics
from pursuhint.similarity.accumulators.shards import MomentShards, RowShards
from pursuhint.similarity.layer_similarity import LayerSimilarity
from pursuhint.similarity.metric import Metric
from pursuhint.similarity.resampling import Resampled, resample


@dataclass(frozen=True)
class Choice:
    """What to conclude from statistics; see `pursuhint.analysis.analyze`."""

    metrics: tuple[str, ...]
    k: int | Literal["auto"] | None
    algorithm: str
    position: str
    normalize: bool
    seed: int


def analyze_statistics(
    points: tuple[HintPoint, ...],
    statistics: LayerStatistics,
    parts: Parts | None,
    computed: Sequence[Metric],
    choice: Choice,
    spent: CollectSeconds,
) -> Analysis:
    """An analysis, but for what is known of network, data and pass only.

    Args:
        points: all layers.
        statistics: of their features, over all samples.
        parts: the same of parts of the samples, if how sure the choice is should be found out.
        computed: the metrics to compute, each with the one that it is clustered with.
        choice: what was asked for.
        spent: what the pass took.

    Raises:
        PursuhintError: too few layers vary over the samples for the number of hint points.
    """
    stability_seconds: dict[str, float] = {}
    resampled: dict[str, Resampled] = {}
    whole: dict[str, tuple[Tensor, float]] = {}
    if parts is not None:
        resampled, stability_seconds = _resampled(parts, computed, choice.seed)
        for metric in computed:
            matrix = resampled[metric.name].whole
            if metric.needs == "rows" and matrix is not None:
                whole[metric.name] = (matrix, stability_seconds.pop(metric.name))
    matrices, similarity_seconds = _matrices(
        statistics, [metric for metric in computed if metric.name not in whole]
    )
    for name, (matrix, seconds) in whole.items():
        matrices[name], similarity_seconds[name] = matrix, seconds
    kept = [i for i in range(len(points)) if not any(m[i, i].isnan() for m in matrices.values())]
    excluded = tuple(point for i, point in enumerate(points) if i not in kept)
    candidates = [points[i] for i in kept]
    _check_candidates(candidates, excluded, choice.k)
    similarities = {}
    for metric in computed:
        parted = resampled.get(metric.name)
        similarities[metric.name] = LayerSimilarity(
            points,
            matrices[metric.name].cpu(),
            metric.name,
            statistics.count,
            None if parted is None else parted.left_out.float().cpu(),
            None if parted is None else parted.halves.float().cpu(),
        ).subset(kept)

    curves, silhouettes, seconds_of_curves = _curves(similarities, choice)
    if isinstance(choice.k, int):
        k = choice.k
    elif choice.k == AUTO:
        first = choice.metrics[0]
        k = choose_k(curves[first][choice.algorithm], silhouettes[first][choice.algorithm]).k
    else:
        k = default_k(candidates)
    clusterings: dict[str, dict[str, Clustering]] = {}
    clustering_seconds = {}
    stability = {}
    for metric_name in choice.metrics:
        similarity = similarities[get_metric(metric_name).for_clustering]
        began = time.perf_counter()
        clusterings[metric_name] = {
            name: get_algorithm(name)(similarity.values, k, normalize=choice.normalize) for name in ALGORITHMS
        }
        clustering_seconds[metric_name] = seconds_of_curves[metric_name] + time.perf_counter() - began
        began = time.perf_counter()
        found = stability_of_choice(similarity, k, choice.algorithm, choice.position, choice.normalize)
        if found is not None:
            stability[metric_name] = found
            spent_before = stability_seconds.get(metric_name, 0.0)
            stability_seconds[metric_name] = spent_before + time.perf_counter() - began
    clustered_with = {name: get_metric(name).for_clustering for name in similarities}
    plan = choose_plan(
        similarities[clustered_with[choice.metrics[0]]],
        choice.metrics[0],
        choice.k if choice.k == AUTO else k,
        choice.algorithm,
        choice.position,
        choice.normalize,
        choice.seed,
    )
    analysis = Analysis(
        network="",
        data="",
        points=points,
        excluded=excluded,
        metrics=choice.metrics,
        similarities=similarities,
        clustered_with=clustered_with,
        clusterings=clusterings,
        curves=curves,
        silhouettes=silhouettes,
        plan=plan,
        num_samples=statistics.count,
        samples=torch.arange(0),
        seed=choice.seed,
        normalize=choice.normalize,
        batch_size=0,
        device="",
        threads=torch.get_num_threads(),
        seconds=AnalysisSeconds(
            spent.total,
            spent.data,
            spent.forward,
            spent.accumulate,
            similarity_seconds,
            clustering_seconds,
            stability_seconds,
        ),
        processes=world_size(),
        stability=stability,
    )
    return replace(analysis, agreements=_between_metrics(analysis, choice))


def _resampled(
    parts: Parts, metrics: Sequence[Metric], seed: int
) -> tuple[dict[str, Resampled], dict[str, float]]:
    """Matrices on parts of the samples, and seconds, by metric; work that several share is charged to all."""
    statistics = parts.rows if isinstance(parts, RowShards) else parts.moments
    resampled: dict[str, Resampled] = {}
    seconds: dict[str, float] = {}
    for needs in ("moments", "rows"):
        wanted = [metric for metric in metrics if metric.needs == needs]
        if not wanted:
            continue
        source = parts
        began = time.perf_counter()
        if needs == "moments" and isinstance(parts, RowShards) and parts.prefer_moments:
            source = MomentShards.of_rows(parts)
        for group in _shared(wanted, source):
            resampled |= resample(source, group, samples=statistics.count, seed=seed)
            now = time.perf_counter()
            for metric in group:
                seconds[metric.name] = (now - began) / len(group)
            began = now
    return resampled, seconds


def _shared(metrics: Sequence[Metric], parts: Parts) -> list[list[Metric]]:
    """Metrics in groups that share work: those that are computed union by union are one group."""
    alone = [[metric] for metric in metrics if metric.subsample_function(parts) is not None]
    together = [metric for metric in metrics if metric.subsample_function(parts) is None]
    return [*alone, together] if together else alone


def _curves(
    similarities: Mapping[str, LayerSimilarity], choice: Choice
) -> tuple[dict[str, dict[str, dict[int, float]]], dict[str, dict[str, dict[int, float]]], dict[str, float]]:
    """Inertia and silhouette by metric, algorithm and k, and seconds by metric."""
    inertias: dict[str, dict[str, dict[int, float]]] = {}
    silhouettes: dict[str, dict[str, dict[int, float]]] = {}
    seconds = {}
    algorithms = {name: get_algorithm(name) for name in ALGORITHMS}  # importing one takes its time
    for metric in choice.metrics:
        began = time.perf_counter()
        values = similarities[get_metric(metric).for_clustering].values
        inertias[metric], silhouettes[metric] = {}, {}
        for name, cluster in algorithms.items():
            found = curves_over_k(cluster, values, normalize=choice.normalize)
            inertias[metric][name], silhouettes[metric][name] = found
        seconds[metric] = time.perf_counter() - began
    return inertias, silhouettes, seconds


def _between_metrics(analysis: Analysis, choice: Choice) -> tuple[Agreement, ...]:
    everything = range(len(analysis.candidates))
    return tuple(
        _agreement(first, second, (analysis, first, everything), (analysis, second, everything), choice)
        for first, second in combinations(analysis.metrics, 2)
    )


def between_activations(post: Analysis, pre: Analysis, choice: Choice) -> tuple[Agreement, ...]:
    """For each metric; layers that vary on one side only are left out of clusterings and similarities."""
    there = [{point.position: i for i, point in enumerate(side.candidates)} for side in (post, pre)]
    common = sorted(there[0].keys() & there[1].keys())
    layers = [[side[position] for position in common] for side in there]
    return tuple(
        _agreement(
            f"{metric} after the activations",
            f"{metric} before the activations",
            (post, metric, layers[0]),
            (pre, metric, layers[1]),
            choice,
        )
        for metric in post.metrics
    )


def _agreement(
    first: str,
    second: str,
    one: tuple[Analysis, str, Sequence[int]],
    other: tuple[Analysis, str, Sequence[int]],
    choice: Choice,
) -> Agreement:
    """Compare two analyses (or metrics) on some of the layers of each."""
    labels, similarities, positions = [], [], []
    for analysis, metric, layers in (one, other):
        clustering = analysis.clusterings[metric][choice.algorithm]
        similarity = analysis.similarities[get_metric(metric).for_clustering]
        chosen = choose_positions(clustering, choice.position, similarity.values)
        labels.append([clustering.labels[layer] for layer in layers])
        similarities.append(similarity.subset(layers).values)
        positions.append(tuple(analysis.candidates[layer].position for layer in chosen))
    correlation = rank_correlation(*similarities)
    return Agreement(first, second, rand_index(*labels), correlation, *positions)


def _matrices(
    layers: LayerStatistics, metrics: Sequence[Metric]
) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """Matrices and seconds by metric; work that several share is charged to all alike."""
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
    candidates: Sequence[HintPoint], excluded: Sequence[HintPoint], k: int | Literal["auto"] | None
) -> None:
    """Now that it is known which layers vary."""
    left = len(candidates)
    enough = k if isinstance(k, int) else 2
    if left < enough:
        names = ", ".join(point.module for point in excluded)
        raise PursuhintError(
            f"only {left} of {left + len(excluded)} layers vary over the samples, too few for {enough} hint "
            f"points; these do not: {names}"
        )
