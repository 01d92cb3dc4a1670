"""Stream a data set through a network into the statistics of its layers, in one pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from types import MappingProxyType

import torch
from torch import Tensor, nn

from pursuhint._util.registry import lookup
from pursuhint._util.timing import CollectSeconds, Stopwatch
from pursuhint.analysis.prefetch import Prefetcher
from pursuhint.data.batch import Batch
from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import evaluating
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import HintPoint
from pursuhint.features.pooling import MeanPooling, Pooling
from pursuhint.similarity.accumulators.base import LayerStatistics
from pursuhint.similarity.accumulators.choose import StatisticsLayout

MEAN = MeanPooling()

AUTOCAST: Mapping[str, torch.dtype] = MappingProxyType({"bf16": torch.bfloat16, "fp16": torch.float16})
"""Types in which a network can be run by automatic mixed precision, by name."""


def check_autocast(autocast: str | None, device: torch.device | str) -> None:
    """Make sure that a network can be run in a type of `AUTOCAST`, if in any.

    Raises:
        PursuhintError: there is no such type, or the device cannot compute in it.
    """
    if autocast is None:
        return
    lookup("autocast type", {name: name for name in AUTOCAST}, autocast)
    if autocast == "fp16" and torch.device(device).type == "cpu":
        raise PursuhintError("autocast 'fp16' needs a GPU; use 'bf16' or none on the CPU")


def collect(
    network: nn.Module,
    points: Sequence[HintPoint],
    batches: Iterable[Batch],
    *,
    pooling: Pooling = MEAN,
    form: StatisticsLayout | None = None,
    device: torch.device | str = "cpu",
    autocast: str | None = None,
    on_batch: Callable[[int], None] | None = None,
    seconds: CollectSeconds | None = None,
) -> LayerStatistics:
    """Run a network over batches and gather the statistics of its features at some points.

    Feature maps (N, C, H, W) and token sequences (N, T, C) are averaged over space or tokens to (N, C), as in
    PURSUhInT, section 3.1, or pooled in another way. The network runs in evaluation mode and without
    gradients, only as deep as the deepest point; the training mode of each of its modules is restored
    afterwards, and no hook stays, even after an error.

    Args:
        network: the network, on ``device``.
        points: points of this network, from `pursuhint.features.find_hint_points`.
        batches: what to run it on.
        pooling: from features to one vector a sample; see `pursuhint.features.pooling`.
        form: in which form to keep the statistics, from `pursuhint.similarity.choose_layout`; moments by
            default.
        device: where batches are moved and statistics are kept. (On a device without float64 they are kept
            on the CPU.) On a GPU a batch travels while the network works on the one before.
        autocast: run the network in ``"bf16"`` or ``"fp16"`` by automatic mixed precision. What is averaged
            and added up afterwards is not reduced, but features are known to three digits only.
        on_batch: called after each batch with the number of samples so far.
        seconds: where to add the time spent, if that is of interest.

    Returns:
        Statistics of all points, in the given order. Without batches their count is 0.

    Raises:
        PursuhintError: there is no point, a point is not reached, the network fails, features are not finite
            (the message names the point and the batch), or the images or features of a batch have another
            shape than those before.
    """
    return collect_together(
        [(network, points)],
        batches,
        pooling=pooling,
        form=form,
        device=device,
        autocast=autocast,
        on_batch=on_batch,
        seconds=seconds,
    )


def collect_together(
    networks: Sequence[tuple[nn.Module, Sequence[HintPoint]]],
    batches: Iterable[Batch],
    *,
    pooling: Pooling = MEAN,
    form: StatisticsLayout | None = None,
    device: torch.device | str = "cpu",
    autocast: str | None = None,
    on_batch: Callable[[int], None] | None = None,
    seconds: CollectSeconds | None = None,
) -> LayerStatistics:
    """Run several networks over the same batches and gather joint statistics of all their points.

    Args:
        networks: each with points of it.
        batches: as for `collect`, like all that follow.

    Returns:
        Statistics of the points of the first network, then of the second, and so on.

    Raises:
        PursuhintError: as `collect`.
    """
    seconds = seconds if seconds is not None else CollectSeconds()
    form = form if form is not None else StatisticsLayout()
    statistics = empty_statistics(networks, pooling=pooling, form=form, device=device)
    watch = Stopwatch(seconds, device)
    done = 0
    stream = pooled_batches(networks, batches, pooling=pooling, device=device, autocast=autocast, watch=watch)
    with contextlib.closing(stream):
        for pooled, indices in stream:
            with watch.measure("accumulate"):
                statistics.update(pooled, samples=indices)
            done += len(indices)
            if on_batch is not None:
                on_batch(done)
    watch.settle()
    return statistics


def empty_statistics(
    networks: Sequence[tuple[nn.Module, Sequence[HintPoint]]],
    *,
    pooling: Pooling = MEAN,
    form: StatisticsLayout | None = None,
    device: torch.device | str = "cpu",
) -> LayerStatistics:
    """Statistics of the points of some networks, without samples; arguments as for `collect_together`.

    Raises:
        PursuhintError: there is no point, or the pooling cannot take the features of one.
    """
    if not all(points for _, points in networks):
        raise PursuhintError("nothing to collect: no hint points were given")
    several = len(networks) > 1
    names = [
        f"{point} of {type(network).__name__}" if several else str(point)
        for network, points in networks
        for point in points
    ]
    for _, points in networks:
        pooling.check(points)
    widths = pooled_widths([point for _, points in networks for point in points], pooling)
    device = torch.device(device)
    form = form if form is not None else StatisticsLayout()
    return form.start(widths, names=names, device="cpu" if device.type == "mps" else device)


def pooled_batches(
    networks: Sequence[tuple[nn.Module, Sequence[HintPoint]]],
    batches: Iterable[Batch],
    *,
    pooling: Pooling = MEAN,
    device: torch.device | str = "cpu",
    autocast: str | None = None,
    watch: Stopwatch,
) -> Generator[tuple[list[Tensor], Tensor]]:
    """Run networks over batches; arguments as for `collect_together`, and a stopwatch for data and forward.

    Close the generator when it is not used to its end: only then have the networks their modes back.

    Yields:
        For each batch the pooled features, one (N, width) a point, and the indices of the samples.

    Raises:
        PursuhintError: a point is not reached, a network fails, the images or features of a batch have
            another shape than those before, or a network cannot be run in the type of ``autocast``.
    """
    device = torch.device(device)
    check_autocast(autocast, device)
    readers = [_Reader(network, points, pooling) for network, points in networks]
    shape: torch.Size | None = None
    number = 0
    with contextlib.ExitStack() as exits:
        for network, _ in networks:
            exits.enter_context(evaluating(network))
        prefetcher = Prefetcher(batches, device)
        while True:
            with watch.measure("data"):
                batch = prefetcher.next()
            if batch is None:
                return
            number, images = number + 1, batch.images
            if shape is not None and images.shape[1:] != shape:
                raise PursuhintError(
                    f"the images of batch {number} are of shape {tuple(images.shape[1:])}, those before it "
                    f"of shape {tuple(shape)}; resize them to one size"
                )
            shape = images.shape[1:]
            with watch.measure("forward"), torch.no_grad(), _cast(autocast, device):
                pooled = [features for reader in readers for features in reader.pooled(images, number)]
            with watch.measure("data"):
                prefetcher.preload()
            yield pooled, batch.indices


def _cast(autocast: str | None, device: torch.device) -> contextlib.AbstractContextManager[object]:
    return contextlib.nullcontext() if autocast is None else torch.autocast(device.type, AUTOCAST[autocast])


def pooled_widths(points: Sequence[HintPoint], pooling: Pooling) -> list[int]:
    """Width of the pooled features of each point."""
    return [pooling.width(point.channels, point.spatial) for point in points]


class _Reader:
    """Runs one network on batches and pools the features of its points."""

    def __init__(self, network: nn.Module, points: Sequence[HintPoint], pooling: Pooling) -> None:
        self.extractor = FeatureExtractor(network, points, logits=False)
        self.pooling = pooling
        self.shapes: list[torch.Size] | None = None

    def pooled(self, images: Tensor, number: int) -> list[Tensor]:
        """Pooled features of a batch, one (N, width) a point; ``number`` is the batch's, for messages."""
        # The probe holds the feature maps of all points at once. Running a large batch in parts bounds that
        # memory, and changes no result: in evaluation mode samples do not influence one another.
        room = _ROOM_ON_CPU if images.device.type == "cpu" else _ROOM_ON_ACCELERATOR
        part = max(1, room // _bytes_per_sample(self.extractor.points, images.element_size()))
        if len(images) <= part:
            return self._run(images, number)
        parts = [self._run(some, number) for some in images.split(part)]
        return [torch.cat(pieces) for pieces in zip(*parts)]

    def _run(self, images: Tensor, number: int) -> list[Tensor]:
        try:
            features = self.extractor(images).maps
        except PursuhintError:
            raise
        except Exception as error:  # the network is not ours: whatever it raises is about it
            name, shape = type(self.extractor.network).__name__, tuple(images.shape)
            reason = (str(error) or repr(error)).splitlines()[0]
            raise PursuhintError(f"{name} failed in batch {number}, of shape {shape}: {reason}") from error
        shapes = [feature.shape[1:] for feature in features]
        self.shapes = shapes if self.shapes is None else self.shapes
        for point, shape, before in zip(self.extractor.points, shapes, self.shapes):
            if shape != before:
                raise PursuhintError(
                    f"the features of {point} are of shape {tuple(shape)} in batch {number}, of shape "
                    f"{tuple(before)} before it; choose among modules whose features keep their shape"
                )
        return [self.pooling(feature) for feature in features]


_ROOM_ON_CPU = 128 << 20
_ROOM_ON_ACCELERATOR = 2 << 30


def _bytes_per_sample(points: Sequence[HintPoint], element_size: int) -> int:
    sizes = (point.channels * torch.Size(point.spatial).numel() for point in points)
    return element_size * sum(sizes)
