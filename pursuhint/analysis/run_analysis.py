"""From a network and data to hint positions: similarity of all layers, clusters, and a plan."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pursuhint._util.devices import choose_device
from pursuhint._util.distributed import world_size
from pursuhint._util.fingerprint import fingerprint_network
from pursuhint._util.network_input import named_tensors
from pursuhint._util.progress_bars import counted
from pursuhint._util.provenance import circumstances, weights_from
from pursuhint._util.timing import CollectSeconds
from pursuhint._util.warn_user import warn_user
from pursuhint.analysis.auto_samples import AutoSamples
from pursuhint.analysis.collection_plan import Collected, CollectionPlan
from pursuhint.analysis.from_statistics import AnalysisRequest, analyze_statistics, with_pre, with_sampling
from pursuhint.analysis.layers_to_compare import LayersToCompare
from pursuhint.analysis.metric_names import metric_names, with_normalized
from pursuhint.analysis.pass_options import PassOptions
from pursuhint.analysis.provenance import Provenance
from pursuhint.analysis.result import Analysis
from pursuhint.analysis.resumable_pass import ACCURACY, SAVE_EVERY, SampleSource, StateOptions, forget
from pursuhint.analysis.sample_batches import SampleBatches
from pursuhint.analysis.stopping import StoppingRule
from pursuhint.data import DataLike, ImageData, InputData, sample_indices
from pursuhint.data.fingerprint import fingerprint_data
from pursuhint.data.preprocessing import Preprocessing
from pursuhint.data.sample_order import SampleOrder
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import Activation
from pursuhint.features.pooling import get_pooling
from pursuhint.hints.options import SelectionOptions
from pursuhint.models.accuracy import measure_teacher
from pursuhint.models.converted_images import takes_any_data
from pursuhint.models.normalization import converted_to
from pursuhint.models.teacher_accuracy import TeacherAccuracy
from pursuhint.similarity import NORMALIZED, check_normalized, get_metric
from pursuhint.similarity.accumulators.choose import default_memory_limit
from pursuhint.similarity.kernel import with_exact_median
from pursuhint.similarity.resampling import SHARDS, SMALLEST_SHARD

__all__ = ["analyze"]

QUALITY_SAMPLES = 2000
"""Images whose features are kept for the knowledge quality, at most, as in the paper."""

# Arguments that do not change the result, or that the provenance has in other fields.
_NOT_RECORDED = frozenset(
    ("network", "data", "device", "state", "save_every", "network_name", "checkpoint", "accuracy")
) | {"on_accuracy", "on_progress", "progress"}


@takes_any_data("network")
def analyze(
    network: nn.Module,
    data: DataLike,
    *,
    metrics: Sequence[str] = ("cka",),
    k: int | Literal["auto"] | None = None,
    samples: int | Literal["auto"] | AutoSamples = 10_000,
    seed: int = 0,
    activation: Activation | Literal["both"] = "post",
    pooling: str = "mean",
    batch_size: int = 256,
    device: torch.device | str | None = None,
    autocast: str | None = None,
    fuse_batchnorm: bool = True,
    channels_last: bool = True,
    workers: int = 0,
    include: Sequence[str] = (),
    position: str = "center",
    algorithm: str = "kmeans",
    normalize: bool = False,
    memory_limit: int | None = None,
    exact_median: bool = False,
    stability: bool = True,
    class_quality: bool = False,
    state: Path | str | None = None,
    save_every: float = SAVE_EVERY,
    network_name: str | None = None,
    checkpoint: Path | str | None = None,
    accuracy: TeacherAccuracy | None = None,
    on_accuracy: Callable[[TeacherAccuracy], None] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    progress: bool | None = None,
) -> Analysis:
    """Compute the similarity of all layers of a network, cluster the layers, and choose hint points.

    One pass over training images without augmentation accumulates the joint moments of all layers, from
    which every metric and every clustering is computed. R2CCA gives a rank-deficient layer a similarity
    below 1 with itself; R2CCA divided by the ranks is reported beside it, and clustered with ``normalize``.
    k-means (the paper's algorithm), the best contiguous partition and the other algorithms are all computed,
    whichever of them chooses the plan.

    The stability of the choice under resampling of images is estimated from ten random shards of the images,
    whose statistics the pass keeps apart: the choice is repeated without each shard and on random halves.
    What other algorithms, metrics and nearly optimal partitions choose is another question;
    `Analysis.choice_agreement` answers it.

    R2CCA and the other metrics made of canonical correlations need about twice as many images as the widest
    layer has features. With fewer, a `PursuhintWarning` says so before the pass, and the analysis estimates
    no stability and no distance to the best partition for them.

    In a distributed run (``accelerate launch``, or any default process group) the ranks shard the images
    by batches, and all return the same analysis, equal to the analysis by one process up to rounding.

    Args:
        network: the teacher; moved to ``device``, and otherwise left as it was.
        data: where samples are drawn from: the training split of whatever `pursuhint.data.as_data` takes:
            images or anything else that the network takes (token ids, signals, several tensors), in arrays, a
            data set or a loader. Means over tokens leave out padding if an ``attention_mask`` is among them.
            Images of another normalisation than the network says that it expects are converted.
        metrics: names of `pursuhint.similarity.METRICS`; the first one chooses the plan.
        k: number of hint points, at least 2; ``"auto"``: the k with the highest silhouette, see
            `pursuhint.clustering.choose_k`; default: `pursuhint.hints.default_k`.
        samples: how many images to draw, without replacement; all if there are fewer. The paper uses 10,000.
            ``"auto"``: until the choice is that of 10,000, at a level of 95 %; other numbers as an
            `pursuhint.analysis.AutoSamples`.
        seed: of the draw.
        activation: features after (``"post"``) or before (``"pre"``) the last activation of a sub-block; or
            ``"both"`` in one pass: an analysis after the activations, whose ``pre`` is the analysis before.
        pooling: from feature maps and tokens to one vector a sample: ``"mean"`` (the paper's), ``"max"``,
            ``"class-token"``, or ``"none"`` for several places of a map; see
            `pursuhint.features.get_pooling`.
        batch_size: images in a batch; does not change the result.
        device: where to run; None for the best there is.
        autocast: run the network in ``"bf16"`` or (on a GPU) ``"fp16"`` by automatic mixed precision: faster
            on a GPU, and less exact; docs/analysis.md says by how much for which metric.
        fuse_batchnorm: run a copy of the network whose batch norms are fused into the layers before them,
            where its features are the same but for rounding; not with ``autocast``.
        channels_last: run a copy of a network with batch norms in `torch.channels_last`, which is faster for
            convolutions; not with ``autocast``.
        workers: processes that decode image files; see `pursuhint.data.make_loader`.
        include: module-name patterns that replace the automatic choice of candidates; see
            `pursuhint.features.find_hint_points`.
        position: which member of a cluster becomes its hint point; see `pursuhint.hints.choose_positions`.
        algorithm: which clustering chooses the plan; a name of `pursuhint.clustering.ALGORITHMS`.
        normalize: cluster R2CCA by rank in place of R2CCA, as the starred rows of the paper's Table 2
            ("normalization before clustering"). Both are reported. Of ``metrics`` one must be ``"r2cca"``:
            by the others a layer has similarity 1 with itself already.
        memory_limit: bytes that the statistics of the layers may take on ``device``, beside the network and
            its feature maps; see `pursuhint.similarity.choose_layout`.
        exact_median: take the bandwidth of RBF kernels from all samples, not from 2,000 of them.
        stability: estimate the stability of the choice under resampling of images. Needs 40 images.
        class_quality: compute the knowledge quality of every layer too (`ClassCurves.quality`), which the
            rule ``quality`` takes. It needs single images: the pass keeps the pooled features of 2,000 of
            them, those that ``samples=2000`` would draw; with ``"auto"`` the first 2,000 of the pass.
        state: folder in which a long pass saves its state; a pass over the same images with the same network
            and settings resumes from it. Removed when the analysis is complete.
        save_every: seconds between two states, longer if saving takes more than 5 % of the time; 0 saves
            after every batch.
        network_name: what the analysis calls the network; default: the name of its class.
        checkpoint: the file that the network's weights are from; its name and hash are kept with the result.
        accuracy: of the network on the test split, if it has been measured; None measures it, and a
            `pursuhint.errors.PursuhintWarning` says if it is near chance.
        on_accuracy: called with the accuracy before the pass begins.
        on_progress: called after each batch with the number of samples done and in total, of this rank.
        progress: show a bar: True, False, or None for where somebody looks (a terminal, a notebook) and
            ``on_progress`` is not given.

    Raises:
        PursuhintError: a name is unknown, a number is out of range, there are fewer than two layers, the
            network cannot run on the data, or the memory limit is too low; all before the pass over the data
            begins. After it: features are not finite, or too few layers vary for k hint points.
    """
    arguments, began = _changed_arguments(locals()), circumstances()
    asked = metric_names(metrics)
    names = with_normalized(asked)
    if normalize:
        check_normalized(metrics)
    pool = get_pooling(pooling)
    selection = SelectionOptions(k, algorithm, position, normalize)
    device = choose_device(device)
    options = PassOptions(pool, device, autocast, fuse_batchnorm, channels_last)
    auto = AutoSamples.of(samples)
    if auto is not None and not stability:
        raise PursuhintError("samples='auto' ends when the choice is stable; leave stability on")
    most = auto.max_samples if auto is not None else int(samples)  # type: ignore[arg-type]
    if most < 2:
        raise PursuhintError(f"similarity needs at least 2 samples, got samples={samples}")
    indices = sample_indices(data, most, seed)
    _check_samples(data, names, len(indices), class_quality=class_quality)
    network = network.to(device)
    batches = SampleBatches(data, device, batch_size, workers)
    example = batches.example(indices)
    layers = LayersToCompare.find(network, example, pool, activation=activation, include=include)
    layers.check_k(k)
    computed = tuple(
        with_exact_median(get_metric(name)) if exact_median else get_metric(name) for name in names
    )
    limit = default_memory_limit(device) if memory_limit is None else memory_limit
    limit //= len(layers.points)
    if class_quality:
        limit = layers.memory_beside_rows(limit, min(QUALITY_SAMPLES, len(indices)))
    layouts = layers.layouts(computed, samples=len(indices), memory_limit=limit, device=device)
    scarce = layers.too_few_samples(names, len(indices))
    for name in asked:
        if name in scarce:
            warn_user(scarce[name].sentence())
    no_stability = _why_no_stability(stability, len(indices), scarce=scarce.keys() >= set(asked))
    rule = None
    if auto is not None:
        clustered = get_metric(NORMALIZED.get(asked[0], asked[0]) if normalize else asked[0])
        needed = layers.samples_needed(names, scarce)
        rule = StoppingRule(auto, len(indices), clustered, selection, samples_needed=needed, seed=seed)
    order = SampleOrder.growing(
        indices,
        (len(indices),) if auto is None or no_stability else auto.ends(len(indices)),
        shards=1 if no_stability else SHARDS,
        seed=seed,
        batch_size=batch_size,
    )
    plan = CollectionPlan(
        network,
        layers.points,
        layouts,
        SampleSource(order, batches),
        options,
        limit,
        classes=data.num_classes,
        rows_of=_rows_of(data, order, seed) if class_quality else None,
    )
    states = None
    if state is not None:
        settings: dict[str, Any] = {
            **named_tensors(example, "example"),
            "metrics": names,
            "activation": activation,
            "classes": data.num_classes,
            **({"class_quality": True} if class_quality else {}),
            **({} if auto is None else {"auto": asdict(auto), "selection": asdict(selection)}),
            "name": data.name,
            "data": fingerprint_data(data),
        }
        states = StateOptions(Path(state), save_every, settings)
    shown = type(network).__name__ if network_name is None else network_name
    if accuracy is None:
        keep = None if state is None else Path(state) / ACCURACY
        accuracy = measure_teacher(network, data, name=shown, device=device, workers=workers, keep=keep)
    if on_accuracy is not None:
        on_accuracy(accuracy)
    with counted(progress, on_progress, f"analyzing {shown}") as watch:
        gathered, spent = plan.collect(states=states, rule=rule, on_progress=watch)
    taken = next(iter(gathered.values())).statistics.count
    if taken < len(indices):
        indices = order.indices[:taken].sort().values
        scarce = layers.too_few_samples(names, taken)
    provenance = Provenance(
        network=shown,
        data=data.name,
        num_samples=taken,
        seed=seed,
        pooling=str(pool),
        batch_size=batch_size,
        device=str(device),
        autocast=autocast,
        threads=torch.get_num_threads(),
        processes=world_size(),
        network_fingerprint=fingerprint_network(network),
        preprocessing=_preprocessing(data, network),
        data_fingerprint=fingerprint_data(data),
        data_notes=data.notes,
        accuracy=accuracy,
        arguments=arguments,
        **weights_from(checkpoint),
        **began,
    )
    request = AnalysisRequest(asked, computed, selection, no_stability, scarce)
    analyses = _analyses(gathered, request, provenance, samples=indices, spent=spent)
    if state is not None:
        forget(state)
    if rule is not None:
        analyses[0] = with_sampling(analyses[0], rule.found(taken, forward=spent.forward))
    post, *pre = (analysis.finished() for analysis in analyses)
    return with_pre(post, pre[0], selection) if pre else post


def _check_samples(
    data: ImageData | InputData, metrics: Sequence[str], samples: int, *, class_quality: bool
) -> None:
    """Check that the metrics, and the knowledge quality if it is asked for, can be computed.

    Raises:
        PursuhintError: there are too few samples or classes.
    """
    for metric in map(get_metric, metrics):
        if samples < metric.samples:
            raise PursuhintError(f"{metric.name} needs at least {metric.samples} samples, got {samples}")
    if class_quality and data.num_classes < 2:
        raise PursuhintError(
            f"class_quality compares classes, and {data.name} has {data.num_classes or 'none'}; leave it out"
        )


def _analyses(
    gathered: Mapping[Activation, Collected],
    request: AnalysisRequest,
    provenance: Provenance,
    *,
    samples: Tensor,
    spent: CollectSeconds,
) -> list[Analysis]:
    """The analyses of the features after and before the activations, in this order."""
    analyses: list[Analysis] = []
    for collected in gathered.values():
        analyses.append(analyze_statistics(collected, request, provenance, samples=samples, spent=spent))
        # As many hint points before the activations as after them, so that the two can be compared.
        request = replace(request, selection=replace(request.selection, k=len(analyses[0].plan)))
    return analyses


def _rows_of(data: ImageData | InputData, order: SampleOrder, seed: int) -> Tensor:
    """The samples whose features are kept: a draw, or the first of a pass that may end early."""
    if len(order.stretches) > 1:
        return order.indices[:QUALITY_SAMPLES]
    return sample_indices(data, min(QUALITY_SAMPLES, len(order)), seed)


def _preprocessing(data: ImageData | InputData, network: nn.Module) -> Preprocessing | None:
    """How images become the network's input, by its own conversion too; None for other data."""
    if isinstance(data, InputData):
        return None
    own = converted_to(network)
    if own is None:
        return data.preprocessing
    return replace(data.preprocessing, mean=own.mean, std=own.std, source=own.source)


def _changed_arguments(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `analyze` that are not the defaults and may change its result, as plain values."""
    defaults = {name: parameter.default for name, parameter in inspect.signature(analyze).parameters.items()}
    return {
        name: _plain(values[name])
        for name, default in defaults.items()
        if name not in _NOT_RECORDED and _plain(values[name]) != _plain(default)
    }


def _plain(value: Any) -> Any:
    """A value as JSON gives it back."""
    if isinstance(value, AutoSamples):
        return asdict(value)
    return list(value) if isinstance(value, tuple) else value


def _why_no_stability(wanted: bool, samples: int, *, scarce: bool) -> str:
    """Reason for not estimating the stability of the choice; empty if it is estimated."""
    if not wanted:
        return "it was switched off"
    if samples < SHARDS * SMALLEST_SHARD:
        return f"it takes at least {SHARDS * SMALLEST_SHARD} images, and there were {samples}"
    return "there are too few images for the width of the layers" if scarce else ""
