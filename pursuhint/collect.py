"""Stream a data set through a network into the statistics of its layers: one pass, no features kept."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pursuhint.data.batch import Batch
from pursuhint.errors import PursuhintError
from pursuhint.points import HintPoint
from pursuhint.probe import Probe, evaluating, pool
from pursuhint.similarity.moments import LayerMoments

__all__ = ["CollectSeconds", "collect"]


@dataclass
class CollectSeconds:
    """Where the time of a collection went; `collect` adds to it.

    Attributes:
        data: waiting for batches, in seconds.
        forward: running the network and averaging its features over space.
        accumulate: adding the features to the moments.
    """

    data: float = 0.0
    forward: float = 0.0
    accumulate: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.data + self.forward + self.accumulate


def collect(
    network: nn.Module,
    points: Sequence[HintPoint],
    batches: Iterable[Batch],
    *,
    device: torch.device | str = "cpu",
    on_batch: Callable[[int], None] | None = None,
    seconds: CollectSeconds | None = None,
) -> LayerMoments:
    """Run a network over batches and gather the moments of its features at some points.

    Feature maps (N, C, H, W) and token sequences (N, T, C) are averaged over space or tokens to (N, C), as in
    PURSUhInT, section 3.1. The network runs in evaluation mode and without gradients, only as deep as the
    deepest point; the training mode of each of its modules is restored afterwards, and no hook stays, even
    after an error.

    Args:
        network: the network, on ``device``.
        points: points of this network, from `pursuhint.points.find_hint_points`.
        batches: what to run it on.
        device: where batches are moved and moments are kept. (On a device without float64 the moments are
            kept on the CPU.)
        on_batch: called after each batch with the number of samples so far.
        seconds: where to add the time spent, if that is of interest.

    Returns:
        Moments of all points, in the given order. Without batches their count is 0.

    Raises:
        PursuhintError: there is no point, a point is not reached, or features are not finite (the message
            names the point and the batch).
    """
    if not points:
        raise PursuhintError("nothing to collect: no hint points were given")
    device = torch.device(device)
    seconds = seconds if seconds is not None else CollectSeconds()
    moments = LayerMoments(
        [point.channels for point in points],
        names=[str(point) for point in points],
        device="cpu" if device.type == "mps" else device,
    )
    probe = Probe(network, points, logits=False)
    with evaluating(network), torch.no_grad():
        before = time.perf_counter()
        for batch in batches:
            images = batch.images.to(device, non_blocking=True)
            started = _now(device)
            pooled = _pooled(probe, images, points)
            forwarded = _now(device)
            moments.update(pooled)
            after = _now(device)
            seconds.data += started - before
            seconds.forward += forwarded - started
            seconds.accumulate += after - forwarded
            if on_batch is not None:
                on_batch(moments.count)
            before = time.perf_counter()
    return moments


def _pooled(probe: Probe, images: Tensor, points: Sequence[HintPoint]) -> list[Tensor]:
    """Features of a batch, averaged over space: one (N, C) a point."""
    # The probe holds the feature maps of all points at once. Running a large batch in parts bounds that
    # memory, and changes no result: in evaluation mode samples do not influence one another.
    room = _ROOM_ON_CPU if images.device.type == "cpu" else _ROOM_ON_ACCELERATOR
    part = max(1, room // _bytes_per_sample(points, images.element_size()))
    if len(images) <= part:
        return [pool(features) for features in probe(images).features]
    parts = [[pool(features) for features in probe(some).features] for some in images.split(part)]
    return [torch.cat(pieces) for pieces in zip(*parts)]


_ROOM_ON_CPU = 128 << 20
_ROOM_ON_ACCELERATOR = 2 << 30


def _bytes_per_sample(points: Sequence[HintPoint], element_size: int) -> int:
    sizes = (point.channels * torch.Size(point.spatial).numel() for point in points)
    return element_size * sum(sizes)


def _now(device: torch.device) -> float:
    """The time at which the device has finished what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
