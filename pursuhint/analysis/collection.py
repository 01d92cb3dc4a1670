"""Stream a data set through a network into the statistics of its layers, in one pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable, Sequence

import torch
from torch import Tensor, nn

from pursuhint._util.network_input import (
    NetworkInput,
    attention_mask,
    channels_last,
    count_samples,
    shapes_of,
    split_samples,
    tensors_of,
)
from pursuhint._util.timing import CollectSeconds, Stopwatch
from pursuhint.acceleration.inference_copy import inference_copy
from pursuhint.analysis.pass_options import PassOptions
from pursuhint.analysis.prefetch import Prefetcher
from pursuhint.data.batch import Batch
from pursuhint.errors import PursuhintError
from pursuhint.features.call_trace import evaluating
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import HintPoint
from pursuhint.features.pooling import Pooling
from pursuhint.similarity.accumulators.base import LayerStatistics
from pursuhint.similarity.accumulators.choose import StatisticsLayout

NetworkPoints = tuple[nn.Module, Sequence[HintPoint]]
"""A network and points of it."""


def collect(
    networks: Sequence[NetworkPoints],
    batches: Iterable[Batch],
    options: PassOptions | None = None,
    *,
    layout: StatisticsLayout | None = None,
    on_batch: Callable[[int], None] | None = None,
    seconds: CollectSeconds | None = None,
) -> LayerStatistics:
    """Run networks over batches and accumulate joint statistics of their features.

    The networks run in evaluation mode and without gradients, only as deep as their deepest points.
    Afterwards, also after an error, each module has its training mode back and no hook is left.

    Args:
        networks: each network, on the device of ``options``, with points of it from
            `pursuhint.features.find_hint_points`.
        batches: the images; on a GPU the next batch is copied while the networks run.
        options: how the networks are run; on the CPU with mean pooling by default.
        layout: how the statistics are stored, from `pursuhint.similarity.choose_layout`; moments by default.
        on_batch: called after each batch with the number of samples so far.
        seconds: receives the time spent.

    Returns:
        Statistics of the points of the first network, then of the second, and so on, in the given order.
        Without batches their count is 0.

    Raises:
        PursuhintError: there is no point, a point is not reached, a network fails, features are not finite
            (the message names the point and the batch), or the images or features of a batch have another
            shape than those before.
    """
    options = options if options is not None else PassOptions()
    seconds = seconds if seconds is not None else CollectSeconds()
    statistics = empty_statistics(networks, options, layout)
    watch = Stopwatch(seconds, options.device)
    done = 0
    with contextlib.closing(pooled_batches(networks, batches, options, watch=watch)) as stream:
        for pooled, batch in stream:
            with watch.measure("accumulate"):
                statistics.update(pooled, samples=batch.indices)
            done += len(batch)
            if on_batch is not None:
                on_batch(done)
    statistics.settle()
    watch.settle()
    return statistics


def empty_statistics(
    networks: Sequence[NetworkPoints], options: PassOptions, layout: StatisticsLayout | None = None
) -> LayerStatistics:
    """Statistics of the points of some networks, without samples; arguments as for `collect`.

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
        options.pooling.check(points)
    widths = pooled_widths([point for _, points in networks for point in points], options.pooling)
    device = torch.device(options.device)
    layout = layout if layout is not None else StatisticsLayout()
    # MPS has no float64, which the statistics are accumulated in.
    return layout.start(widths, names=names, device="cpu" if device.type == "mps" else device)


def pooled_batches(
    networks: Sequence[NetworkPoints], batches: Iterable[Batch], options: PassOptions, *, watch: Stopwatch
) -> Generator[tuple[list[Tensor], Batch]]:
    """Run networks over batches; arguments as for `collect`.

    Close the generator if it is not exhausted: only then do the networks get their training modes back.

    Args:
        networks: each with points of it.
        batches: the images.
        options: how the networks are run.
        watch: measures waiting for data and the forward pass.

    Yields:
        For each batch the pooled features, one (N, width) per point, and the batch.

    Raises:
        PursuhintError: a point is not reached, a network fails, or the images or features of a batch have
            another shape than those before.
    """
    readers = [_Reader(network, points, options) for network, points in networks]
    shape: list[torch.Size] | None = None
    number = 0
    with contextlib.ExitStack() as exits:
        for network, _ in networks:
            exits.enter_context(evaluating(network))
        prefetcher = Prefetcher(batches, options.device)
        while True:
            with watch.measure("data"):
                batch = prefetcher.next()
            if batch is None:
                return
            number, images = number + 1, batch.images
            shapes = [values.shape[1:] for values in tensors_of(images)]
            if shape is not None and shapes != shape:
                found, before = (
                    " and ".join(str(tuple(size)) for size in sizes) for sizes in (shapes, shape)
                )
                raise PursuhintError(
                    f"the images of batch {number} are of shape {found}, those before it of shape {before}; "
                    "resize them to one size"
                )
            shape = shapes
            with watch.measure("forward"), torch.no_grad():
                for reader in readers:
                    reader.prepare(images)
            with watch.measure("forward"), torch.no_grad(), options.cast():
                pooled = [features for reader in readers for features in reader.pooled(images, number)]
            # The forward pass is only queued on a GPU: the next batch is copied while it runs.
            with watch.measure("data"):
                prefetcher.preload()
            yield pooled, batch


def pooled_widths(points: Sequence[HintPoint], pooling: Pooling) -> list[int]:
    """Width of the pooled features of each point."""
    return [pooling.width(point.channels, point.spatial) for point in points]


class _Reader:
    """Runs one network on batches and pools the features of its points."""

    def __init__(self, network: nn.Module, points: Sequence[HintPoint], options: PassOptions) -> None:
        self.extractor = FeatureExtractor(network, points, logits=False)
        self.pooling = options.pooling
        self.shapes: list[torch.Size] | None = None
        self._copied: FeatureExtractor | None = None
        # Weights that are rounded to half precision round to other numbers once they are fused.
        self._undecided = options.autocast is None
        self._fuse_batchnorm, self._channels_last = options.fuse_batchnorm, options.channels_last

    def pooled(self, images: NetworkInput, number: int) -> list[Tensor]:
        """Pooled features of a batch, one (N, width) a point; ``number`` is the batch's, for messages."""
        # The extractor holds the feature maps of all points. Splitting a large batch bounds their memory and
        # changes no result, because in evaluation mode samples do not influence one another.
        budget = _BUDGET_ON_CPU if tensors_of(images)[0].device.type == "cpu" else _BUDGET_ON_ACCELERATOR
        part = max(1, budget // _bytes_per_sample(self.extractor.points, _element_size(images)))
        if count_samples(images) <= part:
            return self._run(images, number)
        parts = [self._run(some, number) for some in split_samples(images, part)]
        return [torch.cat(pieces) for pieces in zip(*parts)]

    def prepare(self, images: NetworkInput) -> None:
        """Copy the network for speed, at the first batch that it sees, where that changes no value."""
        if self._undecided:
            self._undecided = False
            points = self.extractor.points
            copied = inference_copy(
                self.extractor.network,
                images,
                points,
                fuse_batchnorm=self._fuse_batchnorm,
                channels_last=self._channels_last,
            )
            if copied is not None:
                self._copied = FeatureExtractor(copied, points, logits=False)

    def _run(self, images: NetworkInput, number: int) -> list[Tensor]:
        try:
            if self._copied is not None:
                features = self._copied(channels_last(images) if self._channels_last else images).maps
            else:
                features = self.extractor(images).maps
        except PursuhintError:
            raise
        except Exception as error:  # foreign code may raise anything
            name, given = type(self.extractor.network).__name__, shapes_of(images)
            reason = (str(error) or repr(error)).splitlines()[0]
            raise PursuhintError(f"{name} failed in batch {number}, of shape {given}: {reason}") from error
        shapes = [feature.shape[1:] for feature in features]
        self.shapes = shapes if self.shapes is None else self.shapes
        for point, shape, before in zip(self.extractor.points, shapes, self.shapes):
            if shape != before:
                raise PursuhintError(
                    f"the features of {point} are of shape {tuple(shape)} in batch {number}, of shape "
                    f"{tuple(before)} before it; choose among modules whose features keep their shape"
                )
        mask = attention_mask(images)
        return [self.pooling(feature, mask) for feature in features]


# Bytes for the feature maps of one forward pass.
_BUDGET_ON_CPU = 128 << 20
_BUDGET_ON_ACCELERATOR = 2 << 30


def _element_size(images: NetworkInput) -> int:
    """Bytes of a number of the features: as of the first floating-point input, else of float32."""
    return next((v.element_size() for v in tensors_of(images) if v.is_floating_point()), 4)


def _bytes_per_sample(points: Sequence[HintPoint], element_size: int) -> int:
    sizes = (point.channels * torch.Size(point.spatial).numel() for point in points)
    return element_size * sum(sizes)
