"""Similarity of every layer of a teacher to every layer of a student, in one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import nn

from pursuhint._util.devices import choose_device
from pursuhint._util.progress_bars import counted
from pursuhint.analysis.collection import collect, pooled_widths
from pursuhint.analysis.metric_names import metric_names
from pursuhint.analysis.pass_options import PassOptions
from pursuhint.analysis.sample_batches import SampleBatches
from pursuhint.data import DataLike, sample_indices
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import Activation, HintPoint, find_hint_points
from pursuhint.features.pooling import get_pooling
from pursuhint.models.converted_images import takes_any_data
from pursuhint.similarity import get_metric
from pursuhint.similarity.accumulators.choose import choose_layout
from pursuhint.similarity.kernel import with_exact_median
from pursuhint.similarity.metric import similarities_between
from pursuhint.similarity.network_similarity import NetworkSimilarity

__all__ = ["compare_networks"]


@takes_any_data("teacher", "student")
def compare_networks(
    teacher: nn.Module,
    student: nn.Module,
    data: DataLike,
    *,
    metrics: Sequence[str] = ("cka",),
    samples: int = 10_000,
    seed: int = 0,
    activation: Activation = "post",
    pooling: str = "mean",
    teacher_points: Sequence[HintPoint] | None = None,
    student_points: Sequence[HintPoint] | None = None,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    autocast: str | None = None,
    fuse_batchnorm: bool = True,
    channels_last: bool = True,
    workers: int = 0,
    memory_limit: int | None = None,
    exact_median: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
    progress: bool | None = None,
) -> dict[str, NetworkSimilarity]:
    """Compute the similarity of every layer of a teacher to every layer of a student.

    One pass runs both networks on the same training images without augmentation. Their classes, widths and
    depths may differ.

    Args:
        teacher: moved to ``device``, and otherwise left as it was.
        student: moved to ``device``, and otherwise left as it was.
        data: where samples are drawn from: the training split of whatever `pursuhint.data.as_data` takes.
            Images are converted for a network that says that it expects another normalisation.
        metrics: names of `pursuhint.similarity.METRICS`.
        samples: how many images to draw, without replacement; all if there are fewer.
        seed: of the draw; `pursuhint.analysis.analyze` draws the same images with equal samples and seed.
        activation: features after (``"post"``) or before (``"pre"``) the last activation of a sub-block.
        pooling: from features to one vector a sample; see `pursuhint.features.get_pooling`.
        teacher_points: which of its points to compare; all by default.
        student_points: which of its points to compare; all by default.
        batch_size: images in a batch; does not change the result.
        device: where to run; None for the best there is.
        autocast: see `pursuhint.analysis.analyze`.
        fuse_batchnorm: see `pursuhint.analysis.analyze`.
        channels_last: see `pursuhint.analysis.analyze`.
        workers: processes that decode image files; see `pursuhint.data.make_loader`.
        memory_limit: bytes that the statistics of the layers may take; see
            `pursuhint.similarity.choose_layout`.
        exact_median: take the bandwidth of RBF kernels from all samples, not from 2,000 of them.
        on_progress: called after each batch with the number of samples done and in total.
        progress: as for `pursuhint.analysis.analyze`.

    Returns:
        By metric, the similarities of shape (teacher layers, student layers).

    Raises:
        PursuhintError: a name is unknown, a number is out of range, a network cannot run on the data, or the
            memory limit is too low; all before the pass over the data begins. After it: features are not
            finite.

    Example:
        >>> from pursuhint import create_model, load_dataset
        >>> teacher, student = (create_model(f"resnet{d}", num_classes=10, in_channels=1) for d in (14, 8))
        >>> found = compare_networks(teacher, student, load_dataset("digits"), samples=100)
        >>> found["cka"].values.shape
        torch.Size([6, 3])
    """
    computed = [get_metric(name) for name in metric_names(metrics)]
    if exact_median:
        computed = [with_exact_median(metric) for metric in computed]
    if samples < 2:
        raise PursuhintError(f"similarity needs at least 2 samples, got samples={samples}")
    device = choose_device(device)
    options = PassOptions(get_pooling(pooling), device, autocast, fuse_batchnorm, channels_last)
    indices = sample_indices(data, samples, seed)

    batches = SampleBatches(data, device, batch_size, workers)
    example = batches.example(indices)
    networks = []
    for network, points in ((teacher, teacher_points), (student, student_points)):
        network.to(device)
        found = find_hint_points(network, example, activation=activation) if points is None else points
        networks.append((network, tuple(found)))
    layout = choose_layout(
        pooled_widths([point for _, points in networks for point in points], options.pooling),
        computed,
        samples=len(indices),
        memory_limit=memory_limit,
        device=device,
    )

    with counted(progress, on_progress, "comparing networks") as watch:

        def on_batch(done: int) -> None:
            if watch is not None:
                watch(done, len(indices))

        layers = collect(networks, batches(indices), options, layout=layout, on_batch=on_batch)
    (_, of_teacher), (_, of_student) = networks
    found_values = similarities_between(layers, len(of_teacher), computed)
    return {
        name: NetworkSimilarity(of_teacher, of_student, values.cpu(), name, layers.count)
        for name, values in found_values.items()
    }
