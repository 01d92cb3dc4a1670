"""Stream a data set through a network into the statistics of its layers, in one pass."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed, nn

from pursuhint.data.batch import Batch
from pursuhint.errors import PursuhintError
from pursuhint.points import HintPoint
from pursuhint.pooling import MeanPooling, Pooling
from pursuhint.probe import Probe, evaluating
from pursuhint.similarity.blocks import LayerBlocks
from pursuhint.similarity.forms import Form
from pursuhint.similarity.statistics import LayerStatistics

__all__ = [
    "Batches",
    "CollectSeconds",
    "clock",
    "collect",
    "collect_together",
    "empty_statistics",
    "pooled_batches",
    "pooled_widths",
]

MEAN = MeanPooling()

Batches = Iterable[Batch] | Callable[[], Iterable[Batch]]
"""What to run a network on; a function that begins anew when there is more than one pass."""


@dataclass
class CollectSeconds:
    """Where the time of a collection went; `collect` adds to it.

    Attributes:
        data: waiting for batches, in seconds.
        forward: running the network and pooling its features.
        accumulate: adding the features to the moments.
    """

    data: float = 0.0
    forward: float = 0.0
    accumulate: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.data + self.forward + self.accumulate

    def take_slowest(self, device: torch.device | str) -> None:
        """Of the times of all processes of the default group take the longest; every process must call it."""
        seconds = torch.tensor([self.data, self.forward, self.accumulate], device=device)
        distributed.all_reduce(seconds, distributed.ReduceOp.MAX)
        self.data, self.forward, self.accumulate = seconds.tolist()


def collect(
    network: nn.Module,
    points: Sequence[HintPoint],
    batches: Batches,
    *,
    pooling: Pooling = MEAN,
    form: Form | None = None,
    device: torch.device | str = "cpu",
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
        points: points of this network, from `pursuhint.points.find_hint_points`.
        batches: what to run it on; a function that gives the same batches again if the form takes several
            passes.
        pooling: from features to one vector a sample; see `pursuhint.pooling`.
        form: in which form to keep the statistics, from `pursuhint.similarity.forms.choose_form`; moments by
            default.
        device: where batches are moved and statistics are kept. (On a device without float64 they are kept
            on the CPU.)
        on_batch: called after each batch with the number of samples so far, over all passes.
        seconds: where to add the time spent, if that is of interest.

    Returns:
        Statistics of all points, in the given order. Without batches their count is 0.

    Raises:
        PursuhintError: there is no point, a point is not reached, features are not finite (the message names
            the point and the batch), the images of a batch have another shape than those before, or batches
            that can be had only once are needed several times.
    """
    return collect_together(
        [(network, points)],
        batches,
        pooling=pooling,
        form=form,
        device=device,
        on_batch=on_batch,
        seconds=seconds,
    )


def collect_together(
    networks: Sequence[tuple[nn.Module, Sequence[HintPoint]]],
    batches: Batches,
    *,
    pooling: Pooling = MEAN,
    form: Form | None = None,
    device: torch.device | str = "cpu",
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
    form = form if form is not None else Form()
    statistics = empty_statistics(networks, pooling=pooling, form=form, device=device)
    if form.passes > 1 and not callable(batches):
        raise PursuhintError(
            f"{form} need the batches again for each pass; give a function that returns them"
        )
    passes = statistics.passes() if isinstance(statistics, LayerBlocks) else (statistics,)
    done = 0
    for gathered in passes:
        stream = pooled_batches(
            networks,
            batches() if callable(batches) else batches,
            pooling=pooling,
            device=device,
            seconds=seconds,
        )
        with contextlib.closing(stream):
            for pooled, indices in stream:
                before = clock(device)
                gathered.update(pooled, samples=indices)
                seconds.accumulate += clock(device) - before
                done += len(indices)
                if on_batch is not None:
                    on_batch(done)
    return statistics


def empty_statistics(
    networks: Sequence[tuple[nn.Module, Sequence[HintPoint]]],
    *,
    pooling: Pooling = MEAN,
    form: Form | None = None,
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
    form = form if form is not None else Form()
    return form.start(widths, names=names, device="cpu" if device.type == "mps" else device)


def pooled_batches(
    networks: Sequence[tuple[nn.Module, Sequence[HintPoint]]],
    batches: Iterable[Batch],
    *,
    pooling: Pooling = MEAN,
    device: torch.device | str = "cpu",
    seconds: CollectSeconds,
) -> Generator[tuple[list[Tensor], Tensor]]:
    """Run networks over batches; arguments as for `collect_together`.

    Close the generator when it is not used to its end: only then have the networks their modes back.

    Yields:
        For each batch the pooled features, one (N, width) a point, and the indices of the samples.

    Raises:
        PursuhintError: a point is not reached, or the images of a batch have another shape than those before.
    """
    device = torch.device(device)
    probes = [Probe(network, points, logits=False) for network, points in networks]
    shape: torch.Size | None = None
    with contextlib.ExitStack() as exits:
        for network, _ in networks:
            exits.enter_context(evaluating(network))
        exits.enter_context(torch.no_grad())
        before = time.perf_counter()
        for number, batch in enumerate(batches, start=1):
            images = batch.images.to(device, non_blocking=True)
            if shape is not None and images.shape[1:] != shape:
                raise PursuhintError(
                    f"the images of batch {number} are of shape {tuple(images.shape[1:])}, those before it "
                    f"of shape {tuple(shape)}; resize them to one size"
                )
            shape = images.shape[1:]
            started = clock(device)
            pooled = [features for probe in probes for features in _pooled(probe, images, pooling)]
            seconds.data += started - before
            seconds.forward += clock(device) - started
            yield pooled, batch.indices
            before = time.perf_counter()


def pooled_widths(points: Sequence[HintPoint], pooling: Pooling) -> list[int]:
    """Width of the pooled features of each point."""
    return [pooling.width(point.channels, point.spatial) for point in points]


def _pooled(probe: Probe, images: Tensor, pooling: Pooling) -> list[Tensor]:
    """Pooled features of a batch: one (N, width) a point."""
    # The probe holds the feature maps of all points at once. Running a large batch in parts bounds that
    # memory, and changes no result: in evaluation mode samples do not influence one another.
    room = _ROOM_ON_CPU if images.device.type == "cpu" else _ROOM_ON_ACCELERATOR
    part = max(1, room // _bytes_per_sample(probe.points, images.element_size()))
    if len(images) <= part:
        return [pooling(features) for features in probe(images).features]
    parts = [[pooling(features) for features in probe(some).features] for some in images.split(part)]
    return [torch.cat(pieces) for pieces in zip(*parts)]


_ROOM_ON_CPU = 128 << 20
_ROOM_ON_ACCELERATOR = 2 << 30


def _bytes_per_sample(points: Sequence[HintPoint], element_size: int) -> int:
    sizes = (point.channels * torch.Size(point.spatial).numel() for point in points)
    return element_size * sum(sizes)


def clock(device: torch.device | str) -> float:
    """The time at which the device has finished what it was given."""
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
