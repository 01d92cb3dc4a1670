"""From a network and data to hint positions: similarity of all layers, clusters, and a plan."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pursuhint.analysis_result import Analysis, AnalysisSeconds, certainty_of_choice, choose_plan
from pursuhint.clustering import ALGORITHMS, Clustering, get_algorithm
from pursuhint.clustering.agreement import Agreement, rand_index, rank_correlation
from pursuhint.clustering.choose_k import AUTO, choose_k, curves_over_k
from pursuhint.clustering.result import check_k
from pursuhint.collect import CollectSeconds, collect, empty_statistics, pooled_widths
from pursuhint.data import Batch, ImageData, make_loader, sample_indices
from pursuhint.errors import PursuhintError
from pursuhint.hints import check_position, choose_positions, default_k
from pursuhint.parted_pass import SAVE_EVERY, Accumulator, fingerprint, forget, parted_pass
from pursuhint.points import Activation, HintPoint, find_hint_points
from pursuhint.pooling import Pooling, get_pooling
from pursuhint.sampling import SampleOrder
from pursuhint.similarity import get_metric
from pursuhint.similarity.forms import Form, choose_form, default_memory_limit
from pursuhint.similarity.kernel import with_exact_median
from pursuhint.similarity.layers import LayerSimilarity
from pursuhint.similarity.metric import Metric
from pursuhint.similarity.moments import LayerMoments
from pursuhint.similarity.resampling import PARTS, SMALLEST_PART, Resampled, resample
from pursuhint.similarity.rows import LayerRows
from pursuhint.similarity.shards import MomentShards, RowParts, processes
from pursuhint.similarity.statistics import LayerStatistics

__all__ = ["Analysis", "AnalysisSeconds", "analyze"]

Parts = MomentShards | RowParts


def analyze(
    network: nn.Module,
    data: ImageData,
    *,
    metrics: Sequence[str] = ("cka",),
    k: int | Literal["auto"] | None = None,
    samples: int = 10_000,
    seed: int = 0,
    activation: Activation | Literal["both"] = "post",
    pooling: str = "mean",
    batch_size: int = 256,
    device: torch.device | str = "cpu",
    workers: int = 0,
    include: Sequence[str] = (),
    position: str = "center",
    algorithm: str = "kmeans",
    normalise: bool = False,
    memory_limit: int | None = None,
    exact_median: bool = False,
    certainty: bool = True,
    state: Path | str | None = None,
    save_every: float = SAVE_EVERY,
    network_name: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Analysis:
    """Measure how alike a network's layers are, cluster them, and choose hint points.

    One pass over un-augmented training images gathers the moments of all layers together; every metric and
    every clustering follows from those. R2CCA gives a rank-deficient layer a similarity below 1 with itself,
    so layers are clustered with its rank-normalised form, and both matrices are reported. k-means (the
    paper's), the best contiguous partition and the other algorithms are always all computed, whichever
    chooses the plan.

    How sure the choice is follows from the statistics of ten random parts of the images, which the pass keeps
    apart: the choice is made again with each part left out and on random halves of the parts.

    In a distributed run (``accelerate launch``, or any default process group) the processes share the pass,
    batch by batch, and all return the same analysis: that of a single process, to rounding.

    Args:
        network: the teacher; moved to ``device``, and otherwise left as it was.
        data: where samples are drawn from: the training split.
        metrics: names of `pursuhint.similarity.METRICS`; the first one chooses the plan.
        k: number of hint points, at least 2; ``"auto"``: that with the highest silhouette, see
            `pursuhint.clustering.choose_k.choose_k`; default: `pursuhint.hints.default_k`.
        samples: how many images to draw, without replacement; all if there are fewer. The paper uses 10,000.
        seed: of the draw.
        activation: features after (``"post"``) or before (``"pre"``) the last activation of a sub-block; or
            ``"both"`` in one pass: the analysis of the former, which holds that of the latter as ``pre``.
        pooling: from feature maps and tokens to one vector a sample: ``"mean"`` (the paper's), ``"max"``,
            ``"class-token"``, or ``"none"`` for several places of a map; see `pursuhint.pooling.get_pooling`.
        batch_size: images in a batch; does not change the result.
        device: where to run.
        workers: processes that decode image files; see `pursuhint.data.make_loader`.
        include: module-name patterns that replace the automatic choice of candidates; see
            `pursuhint.points.find_hint_points`.
        position: which member of a cluster becomes its hint point; see `pursuhint.hints.choose_positions`.
        algorithm: which clustering chooses the plan; a name of `pursuhint.clustering.ALGORITHMS`.
        normalise: give layers unit length before clustering; see `pursuhint.clustering.kmeans.kmeans`.
        memory_limit: bytes that the statistics of the layers may take on ``device``, beside the network and
            its feature maps; see `pursuhint.similarity.forms.choose_form`. With too little for all pairs of
            layers at once the data go through the network several times.
        exact_median: take the bandwidth of RBF kernels from all samples, not from 2,000 of them.
        certainty: keep the statistics of parts of the images apart and say how sure the choice is. Needs 40
            images, and that all pairs of layers fit the memory limit at once.
        state: folder in which a long pass keeps its state; a pass over the same images with the same network
            and settings goes on from there. Removed when the analysis is complete.
        save_every: seconds between two states; see `pursuhint.parted_pass.parted_pass`.
        network_name: what the analysis calls the network; default: the name of its class.
        on_progress: called after each batch with the number of samples done and the number in all: of this
            process, over all passes.

    Raises:
        PursuhintError: a name is unknown, a number is out of range, there are fewer than two layers, the
            network cannot run on the data, or the memory limit is too low; all before the pass over the data
            begins. After it: features are not finite, or too few layers vary for k hint points.
    """
    names = _metrics_to_compute(metrics)
    pool = get_pooling(pooling)
    get_algorithm(algorithm)
    check_position(position)
    if samples < 2:
        raise PursuhintError(f"similarity needs at least 2 samples, got samples={samples}")
    indices = sample_indices(data, samples, seed)
    network = network.to(device)

    def batches_of(chosen: Tensor, *, size: int = batch_size, workers: int = workers) -> Iterable[Batch]:
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

    example = next(iter(batches_of(indices[:1], size=1, workers=0))).images
    sides: tuple[Activation, ...] = ("post", "pre") if activation == "both" else (activation,)
    points = {side: find_hint_points(network, example, activation=side, include=include) for side in sides}
    for found in points.values():
        if len(found) < 2:
            raise PursuhintError(
                f"similarity needs at least 2 layers; {type(network).__name__} has only {found[0]}"
            )
        pool.check(found)
        if isinstance(k, int):
            check_k(k, len(found))
    computed = [with_exact_median(get_metric(name)) if exact_median else get_metric(name) for name in names]
    limit = default_memory_limit(device) if memory_limit is None else memory_limit
    forms = {
        side: choose_form(
            pooled_widths(found, pool),
            computed,
            samples=len(indices),
            memory_limit=limit // len(sides),
            device=device,
        )
        for side, found in points.items()
    }
    order = SampleOrder.of(
        indices,
        parts=PARTS if certainty and len(indices) >= PARTS * SMALLEST_PART else 1,
        seed=seed,
        batch_size=batch_size,
    )
    spent = CollectSeconds()
    gather = _gather_in_passes if any(form.passes > 1 for form in forms.values()) else _gather
    gathered = gather(
        network,
        points,
        forms,
        order,
        batches_of,
        pooling=pool,
        device=device,
        room=limit // len(sides),
        spent=spent,
        on_progress=on_progress,
        state=state,
        save_every=save_every,
        identity={
            "example": example,
            "metrics": names,
            "activation": activation,
            "pooling": str(pool),
            "data": data.name,
        },
    )
    choice = _Choice(tuple(dict.fromkeys(metrics)), k, algorithm, position, normalise, seed)
    analyses: list[Analysis] = []
    for side, (statistics, parts) in gathered.items():
        analysis = _analysis(points[side], statistics, parts, computed, choice, spent)
        analyses.append(
            replace(
                analysis,
                network=type(network).__name__ if network_name is None else network_name,
                data=data.name,
                pooling=str(pool),
                batch_size=batch_size,
                device=str(device),
            )
        )
        # The same number on either side, so that the two can be compared.
        choice = replace(choice, k=len(analysis.plan))
    if state is not None:
        forget(state)
    if len(analyses) == 1:
        return analyses[0]
    post, pre = analyses
    return replace(post, pre=pre, agreements=(*post.agreements, *_between_activations(post, pre, choice)))


@dataclass(frozen=True)
class _Choice:
    """What was asked for, once the statistics are there; see `analyze`."""

    metrics: tuple[str, ...]
    k: int | Literal["auto"] | None
    algorithm: str
    position: str
    normalise: bool
    seed: int


# ---------------------------------------------------------------------------------------------------------
# From the network to statistics

Gathered = Mapping[Activation, tuple[LayerStatistics, Parts | None]]


def _gather(
    network: nn.Module,
    points: Mapping[Activation, Sequence[HintPoint]],
    forms: Mapping[Activation, Form],
    order: SampleOrder,
    batches_of: Callable[[Tensor], Iterable[Batch]],
    *,
    pooling: Pooling,
    device: torch.device | str,
    room: int,
    spent: CollectSeconds,
    on_progress: Callable[[int, int], None] | None,
    state: Path | str | None,
    save_every: float,
    identity: dict[str, Any],
) -> Gathered:
    """Statistics of all points from one pass, with those of the parts, if there are several."""
    accumulators: dict[Activation, Parts] = {}
    for side, found in points.items():
        statistics = empty_statistics([(network, found)], pooling=pooling, form=forms[side], device=device)
        if isinstance(statistics, LayerRows):
            accumulators[side] = RowParts(statistics, order)
        else:
            assert isinstance(statistics, LayerMoments)
            # What is left beside the moments of everything and those of a union of parts.
            left = max(0, room - 2 * forms[side].bytes)
            accumulators[side] = MomentShards(statistics, order, room=left)
    total = sum(step.samples for step in order.steps(*processes()))
    taps: dict[str, tuple[Sequence[HintPoint], Accumulator]] = {
        side: (points[side], accumulators[side]) for side in points
    }
    if state is not None:
        names = [str(point.to_dict()) for found in points.values() for point in found]
        kinds = [(form.kind, str(form.products)) for form in forms.values()]
        identity = {"identity": fingerprint(network, order, points=names, kinds=kinds, **identity)}
    parted_pass(
        network,
        taps,
        order,
        batches_of,
        pooling=pooling,
        device=device,
        seconds=spent,
        on_batch=None if on_progress is None else lambda done: on_progress(done, total),
        state=state,
        save_every=save_every,
        identity=identity["identity"] if state is not None else "",
    )
    several = len(order.sizes) > 1
    gathered = {side: (parts.finish(), parts if several else None) for side, parts in accumulators.items()}
    if processes()[1] > 1:
        spent.take_slowest(device)  # after finish, which a process that had no batch begins with
    return gathered


def _gather_in_passes(
    network: nn.Module,
    points: Mapping[Activation, Sequence[HintPoint]],
    forms: Mapping[Activation, Form],
    order: SampleOrder,
    batches_of: Callable[[Tensor], Iterable[Batch]],
    *,
    pooling: Pooling,
    device: torch.device | str,
    spent: CollectSeconds,
    on_progress: Callable[[int, int], None] | None,
    **_: Any,
) -> Gathered:
    """Statistics of all points where memory is too small for those of all pairs of layers at once."""
    if processes()[1] > 1:
        form = next(form for form in forms.values() if form.passes > 1)
        raise PursuhintError(
            f"the memory limit allows {form} only, and processes cannot share these; raise the limit or use "
            "one process"
        )
    total = len(order) * sum(form.passes for form in forms.values())
    gathered: dict[Activation, tuple[LayerStatistics, Parts | None]] = {}
    before = 0
    for side, found in points.items():

        def on_batch(done: int, before: int = before) -> None:
            if on_progress is not None:
                on_progress(before + done, total)

        statistics = collect(
            network,
            found,
            lambda: batches_of(order.indices),
            pooling=pooling,
            form=forms[side],
            device=device,
            on_batch=on_batch,
            seconds=spent,
        )
        before += len(order) * forms[side].passes
        gathered[side] = (statistics, None)
    return gathered


# ---------------------------------------------------------------------------------------------------------
# From statistics to clusters and positions


def _analysis(
    points: tuple[HintPoint, ...],
    statistics: LayerStatistics,
    parts: Parts | None,
    computed: Sequence[Metric],
    choice: _Choice,
    spent: CollectSeconds,
) -> Analysis:
    """The analysis, but for the names of network and data."""
    certainty_seconds: dict[str, float] = {}
    resampled: dict[str, Resampled] = {}
    whole: dict[str, tuple[Tensor, float]] = {}
    if parts is not None:
        resampled, certainty_seconds = _resampled(parts, computed, choice.seed)
        for metric in computed:
            matrix = resampled[metric.name].whole
            if metric.needs == "rows" and matrix is not None:
                whole[metric.name] = (matrix, certainty_seconds.pop(metric.name))
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
    certainty = {}
    for metric_name in choice.metrics:
        similarity = similarities[get_metric(metric_name).for_clustering]
        began = time.perf_counter()
        clusterings[metric_name] = {
            name: get_algorithm(name)(similarity.values, k, normalise=choice.normalise) for name in ALGORITHMS
        }
        clustering_seconds[metric_name] = seconds_of_curves[metric_name] + time.perf_counter() - began
        began = time.perf_counter()
        found = certainty_of_choice(similarity, k, choice.algorithm, choice.position, choice.normalise)
        if found is not None:
            certainty[metric_name] = found
            spent_before = certainty_seconds.get(metric_name, 0.0)
            certainty_seconds[metric_name] = spent_before + time.perf_counter() - began
    plan = choose_plan(
        similarities,
        choice.metrics[0],
        choice.k if choice.k == AUTO else k,
        choice.algorithm,
        choice.position,
        choice.normalise,
        choice.seed,
    )
    analysis = Analysis(
        network="",
        data="",
        points=points,
        excluded=excluded,
        metrics=choice.metrics,
        similarities=similarities,
        clusterings=clusterings,
        curves=curves,
        silhouettes=silhouettes,
        plan=plan,
        num_samples=statistics.count,
        seed=choice.seed,
        normalise=choice.normalise,
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
            certainty_seconds,
        ),
        processes=processes()[1],
        certainty=certainty,
    )
    return replace(analysis, agreements=_between_metrics(analysis, choice))


def _resampled(
    parts: Parts, metrics: Sequence[Metric], seed: int
) -> tuple[dict[str, Resampled], dict[str, float]]:
    """Matrices on parts of the samples, and seconds, by metric; work that several share is charged to all."""
    statistics = parts.rows if isinstance(parts, RowParts) else parts.moments
    resampled: dict[str, Resampled] = {}
    seconds: dict[str, float] = {}
    for needs in ("moments", "rows"):
        wanted = [metric for metric in metrics if metric.needs == needs]
        if not wanted:
            continue
        source = parts
        began = time.perf_counter()
        if needs == "moments" and isinstance(parts, RowParts) and parts.prefer_moments:
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
    alone = [[metric] for metric in metrics if metric.at_once(parts) is not None]
    together = [metric for metric in metrics if metric.at_once(parts) is None]
    return [*alone, together] if together else alone


def _curves(
    similarities: Mapping[str, LayerSimilarity], choice: _Choice
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
            found = curves_over_k(cluster, values, normalise=choice.normalise)
            inertias[metric][name], silhouettes[metric][name] = found
        seconds[metric] = time.perf_counter() - began
    return inertias, silhouettes, seconds


def _between_metrics(analysis: Analysis, choice: _Choice) -> tuple[Agreement, ...]:
    everything = range(len(analysis.candidates))
    return tuple(
        _agreement(first, second, (analysis, first, everything), (analysis, second, everything), choice)
        for first, second in combinations(analysis.metrics, 2)
    )


def _between_activations(post: Analysis, pre: Analysis, choice: _Choice) -> tuple[Agreement, ...]:
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
    choice: _Choice,
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


def _metrics_to_compute(metrics: Sequence[str]) -> tuple[str, ...]:
    """The metrics asked for, each followed by the one that it is clustered with."""
    if isinstance(metrics, str) or not metrics:
        raise PursuhintError(f"metrics must be one or more names in a list, got {metrics!r}")
    wanted = [name for metric in metrics for name in (metric, get_metric(metric).for_clustering)]
    return tuple(dict.fromkeys(wanted))


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
