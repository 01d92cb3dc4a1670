"""Loaders whose batches are a function of seed and epoch number alone."""

from __future__ import annotations

import abc
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pursuhint._util.arguments import LOAD_DATA, expect
from pursuhint._util.network_input import map_tensors
from pursuhint._util.seeds import derived_generator, stable_permutation
from pursuhint.data import Flip
from pursuhint.data.augment import ResizedCropFlip
from pursuhint.data.batch import Batch
from pursuhint.data.dataset_split import DatasetSplit, EpochImages
from pursuhint.data.decode import fit, read_image, resized_crop, to_tensor
from pursuhint.data.image_data import ImageData
from pursuhint.data.input_data import InputData, InputSplit
from pursuhint.data.preprocessing import EVALUATION_MARGIN
from pursuhint.data.splits import FileSplit, MemorySplit, Split
from pursuhint.data.views import Drawing, Views
from pursuhint.errors import PursuhintError

__all__ = ["Loader", "make_loader", "sample_indices"]

_PREFETCHED = 4
"""Batches that each worker keeps ready."""


def make_loader(
    data: ImageData | InputData,
    split: str,
    *,
    batch_size: int,
    training: bool,
    seed: int = 0,
    device: torch.device | str = "cpu",
    workers: int = 0,
    augment: bool | Sequence[str] | None = None,
    flip: Flip = "random",
    second_view: Sequence[str] = (),
    drop_last: bool = False,
    shard: tuple[int, int] = (0, 1),
    subset: Tensor | None = None,
) -> Loader:
    """Make a loader for one split.

    A split in memory is copied to ``device`` once for all loaders of the data set and augmented there in
    batches; files are decoded and augmented by ``workers`` processes.

    Args:
        data: the data set; `InputData` is neither augmented nor normalised.
        split: ``train``, ``val`` or ``test``.
        batch_size: global batch size, summed over all ranks.
        training: shuffle in each epoch; otherwise keep the order of the split (or of ``subset``).
        seed: of order and augmentation.
        device: device of the batches.
        workers: processes that decode files, kept between epochs; 0 decodes in this process. Ignored for data
            in memory. Does not change the batches.
        augment: names of :data:`pursuhint.data.AUGMENTATIONS`; True for ``standard``, False for none.
            Default: ``training``.
        flip: how ``standard`` mirrors images: ``random``, each image in each epoch with probability one half;
            ``alternate``, drawn once for each image, which is then mirrored in every other epoch, so that no
            two epochs in a row show the same side. Source: K. Jordan, 94% on CIFAR-10 in 3.29 Seconds on a
            Single GPU, 2024, https://arxiv.org/abs/2404.00498, section 3.6.
        second_view: augmentations, by name, of a second view of every image (`Batch.second_view`), whose
            random numbers are independent of the first one's; none for one view. Images that a data set's
            own transform changes (`as_data`) are changed once, before both.
        drop_last: leave out the last batch when it is smaller than ``batch_size``.
        shard: (rank, world size): this rank's share of every batch. Shares are disjoint, differ in size by at
            most one sample and add up to the batch of a single process, so evaluation counts every sample
            once. In training every rank must take part in every step, so a last batch with fewer samples
            than ranks is dropped.
        subset: indices (as in ``Batch.indices``) of the samples to use; without ``training`` in this order.

    Raises:
        PursuhintError: no such split, a number out of range, an index outside the split, or an augmentation
            that these data do not have.
    """
    expect(data, (ImageData, InputData), "the data", advice=LOAD_DATA)
    chosen = data.split(split)
    if batch_size < 1:
        raise PursuhintError(f"batch_size must be at least 1, got {batch_size}")
    if workers < 0:
        raise PursuhintError(f"workers must be at least 0, got {workers}")
    which, shards = shard
    if not 0 <= which < shards:
        raise PursuhintError(f"shard must be (which, of how many) with which below it, got {shard}")
    if batch_size < shards:
        raise PursuhintError(f"batch_size {batch_size} cannot be shared by {shards} processes")
    positions = (
        torch.arange(len(chosen)) if subset is None else _positions(chosen, subset, f"{data.name} {split}")
    )
    if drop_last and len(positions) < batch_size:
        raise PursuhintError(
            f"drop_last leaves no batch of {batch_size}: {data.name} {split} has {len(positions)} samples"
        )
    batching = _Batching(
        batch_size, shuffle=training, seed=seed, drop_last=drop_last, rank=which, world_size=shards
    )
    sampler = chosen if isinstance(chosen, DatasetSplit) and training and subset is None else None
    order = _Order(positions, batching, None if sampler is None or sampler.sampler is None else sampler)
    if isinstance(data, InputData):
        if augment or second_view:
            raise PursuhintError(f"{data.name} are no images and cannot be augmented")
        return InputLoader(data.split(split), order, torch.device(device))
    assert not isinstance(chosen, InputSplit)
    augment = training if augment is None else augment
    names = (("standard",) if augment else ()) if isinstance(augment, bool) else tuple(augment)
    if flip == "alternate" and not ("standard" in names and data.augmentation.flip):
        raise PursuhintError(
            f"flip={flip} needs images that are mirrored, and the standard augmentation of {data.name} "
            "mirrors none; leave it at random (data.flip=random)"
            if "standard" in names
            else f"flip={flip} is a part of the standard augmentation, which is left out"
        )
    drawing = Drawing(seed, torch.device(device), alternate=flip == "alternate")
    views = Views(data, chosen, names, tuple(second_view), drawing=drawing)
    if isinstance(chosen, MemorySplit):
        return MemoryLoader(chosen, order, views)
    return FileLoader(data, chosen, order, views, workers)


def sample_indices(data: ImageData | InputData, count: int, seed: int = 0) -> Tensor:
    """Draw training samples for an analysis, without replacement and each with the same probability.

    Args:
        data: the data set.
        count: number of samples; the whole training split if it has fewer.
        seed: of the draw, which does not depend on library versions.

    Returns:
        Ascending indices as in ``Batch.indices``, int64, shape (min(count, len(data.train)),).

    Raises:
        PursuhintError: ``count`` is below 1.
    """
    if count < 1:
        raise PursuhintError(f"at least 1 sample must be drawn, got {count}")
    if count >= len(data.train):
        return data.train.indices.clone()
    return data.train.indices[stable_permutation(len(data.train), seed)[:count]].sort().values


def _positions(split: Split | InputSplit, subset: Tensor, where: str) -> Tensor:
    """Translate sample indices to positions in ``split``."""
    if subset.ndim != 1 or len(subset) == 0 or subset.is_floating_point() or subset.dtype == torch.bool:
        raise PursuhintError(
            f"subset must be a list of sample indices, got {subset.dtype} of shape {tuple(subset.shape)}"
        )
    subset = subset.cpu()
    ordered, order = split.indices.sort()
    place = torch.searchsorted(ordered, subset).clamp_max(len(ordered) - 1)
    unknown = ordered[place] != subset
    if unknown.any():
        raise PursuhintError(
            f"subset names {int(unknown.sum())} samples that the split {where} does not have, "
            f"for example {int(subset[unknown][0])}"
        )
    return order[place]


@dataclass(frozen=True)
class _Batching:
    """How the samples of an epoch are ordered, cut into batches and sharded over the ranks.

    Attributes:
        batch_size: global batch size, summed over all ranks.
        shuffle: draw a new order in each epoch.
        seed: of the order and the augmentation.
        drop_last: leave out the last batch when it is smaller than ``batch_size``.
        rank: of this process.
        world_size: number of ranks.
    """

    batch_size: int
    shuffle: bool
    seed: int
    drop_last: bool
    rank: int
    world_size: int


class _Order:
    """Batches of an epoch as positions in the split, and this rank's share of each.

    Args:
        positions: of the samples to use, in the order of an epoch that is not shuffled.
        batching: how to order, cut and shard them.
        sampled: the split whose sampler gives the positions of an epoch; None for permutations.
    """

    def __init__(self, positions: Tensor, batching: _Batching, sampled: DatasetSplit | None = None) -> None:
        if sampled is not None:
            positions = sampled.sampled(batching.seed, 0)
        self.positions, self.batching, self.sampled = positions, batching, sampled
        ranks = batching.world_size
        full, rest = divmod(len(positions), batching.batch_size)
        keep_rest = rest > 0 and not batching.drop_last and (rest >= ranks or not batching.shuffle)
        self.num_samples = full * batching.batch_size + (rest if keep_rest else 0)
        if self.num_samples == 0:
            raise PursuhintError(f"{len(positions)} samples are too few to train on with {ranks} processes")
        # The larger shares go to the first ranks; a rank above `rest` gets none of the last batch.
        self.num_batches = full + (1 if keep_rest and batching.rank < rest else 0)

    def batches(self, epoch: int) -> list[Tensor]:
        """This rank's share of every batch of an epoch, as positions in the split."""
        order, batching = self.positions, self.batching
        if self.sampled is not None:
            order = self.sampled.sampled(batching.seed, epoch)
            if len(order) != len(self.positions):
                raise PursuhintError(
                    f"the sampler of {self.sampled.reader.name} gives {len(order)} samples in epoch {epoch} "
                    f"and {len(self.positions)} in epoch 0; it must give equally many"
                )
        elif batching.shuffle:
            generator = derived_generator("order", batching.seed, epoch)
            order = order[torch.randperm(len(order), generator=generator)]
        parts = [
            batch.tensor_split(batching.world_size)[batching.rank]
            for batch in order[: self.num_samples].split(batching.batch_size)
        ]
        return parts[: self.num_batches]


class Loader(abc.ABC):
    """Batches of one split, epoch by epoch. Made by :func:`make_loader`.

    Order and augmentation of an epoch are a function of seed and epoch number alone; earlier epochs, device
    and number of workers do not change them. The global random generators are neither read nor changed.
    ``len(loader)`` is the number of batches per epoch on this rank.
    """

    def __init__(self, order: _Order, views: Views) -> None:
        self.device = views.device
        self._order = order
        self._views = views

    def __len__(self) -> int:
        return self._order.num_batches

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation of the batches' images, per channel."""
        return self._views.normalization

    @property
    def num_samples(self) -> int:
        """Samples per epoch, summed over all ranks."""
        return self._order.num_samples

    def joint_size(self, step: int) -> int:
        """Samples in batch number ``step`` (from 0), summed over all ranks."""
        batch_size = self._order.batching.batch_size
        return min(batch_size, self.num_samples - step * batch_size)

    @abc.abstractmethod
    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        """The batches of one epoch, on the loader's device.

        Args:
            number: of the epoch, from 0. Without shuffling and augmentation all epochs are identical.
            start: number of batches to skip at the beginning; the remaining ones are unchanged.
        """


class InputLoader(Loader):
    """Batches of an :class:`InputSplit`, indexed on the device and otherwise as they are."""

    def __init__(self, split: InputSplit, order: _Order, device: torch.device) -> None:
        self.device = device
        self._order = order
        self._split = split.on(device)

    @property
    def normalization(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return (), ()

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        split = self._split
        for part in self._order.batches(number)[start:]:
            chosen = part.to(self.device)
            inputs = map_tensors(split.inputs, lambda values, chosen=chosen: values[chosen])  # type: ignore[misc]
            yield Batch(inputs, split.labels[chosen], split.indices[chosen])


class MemoryLoader(Loader):
    """Batches of a :class:`MemorySplit`, indexed, augmented and normalised on the device."""

    def __init__(self, split: MemorySplit, order: _Order, views: Views) -> None:
        super().__init__(order, views)
        self._split = split.on(self.device)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        parts = self._order.batches(number)[start:]
        if not parts:
            return
        make, split = self._views.of_epoch(number), self._split
        everything = torch.cat(parts).to(self.device)  # one transfer per epoch instead of one per batch
        for step, positions in enumerate(everything.split([len(part) for part in parts]), start):
            yield make(
                step, positions, split.images[positions], split.labels[positions], split.indices[positions]
            )


class FileLoader(Loader):
    """Batches of a :class:`FileSplit` or :class:`DatasetSplit`, read by worker processes."""

    def __init__(
        self,
        data: ImageData,
        split: FileSplit | DatasetSplit,
        order: _Order,
        views: Views,
        workers: int,
    ) -> None:
        super().__init__(order, views)
        self._split = split
        self._keys = _Keys()
        self._running: object = None
        self._images: DataLoader = DataLoader(
            EpochImages(split, views.seed) if isinstance(split, DatasetSplit) else _Files(data, split, views),
            batch_sampler=self._keys,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=self.device.type == "cuda",
            prefetch_factor=_PREFETCHED if workers > 0 else None,
            collate_fn=_stack,
            generator=torch.Generator(),  # otherwise DataLoader draws a seed from the global generator
        )

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        parts = self._order.batches(number)[start:]
        self._keys.epoch, self._keys.parts = number, parts
        self._running = this = object()
        batches = iter(self._images)
        make = self._views.of_epoch(number)
        for step, positions in enumerate(parts, start):
            if self._running is not this:
                raise RuntimeError("another epoch of this loader was begun: its workers serve one at a time")
            images = next(batches)
            if isinstance(images, PursuhintError):
                # Raise a copy: an exception held by a local variable of the raising frame forms a reference
                # cycle that keeps the workers alive until the garbage collector runs.
                raise PursuhintError(*images.args)
            place, labels, indices = (
                values.to(self.device, non_blocking=True)
                for values in (positions, self._split.labels[positions], self._split.indices[positions])
            )
            yield make(step, place, images.to(self.device, non_blocking=True), labels, indices)


class _Keys:
    """Batch sampler of a :class:`FileLoader`: (epoch, position) of every sample.

    Each key carries the epoch because persistent workers keep the data set object they were started with.
    """

    def __init__(self) -> None:
        self.epoch = 0
        self.parts: list[Tensor] = []

    def __len__(self) -> int:
        return len(self.parts)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for part in self.parts:
            yield [(self.epoch, position) for position in part.tolist()]


class _Files(Dataset):
    """Decodes and augments single files; yields uint8 to keep the transfer between processes small.

    Two views that are cut differently come as one tensor, (2, channels, height, width).
    """

    def __init__(self, data: ImageData, split: FileSplit, views: Views) -> None:
        self.augmentation = data.augmentation if isinstance(data.augmentation, ResizedCropFlip) else None
        self.margin = 1.0 if self.augmentation is None else EVALUATION_MARGIN
        self.channels, self.size = data.in_channels, data.image_size
        self.split = split
        drawn = [view for view in (views.first, views.second) if view is not None]
        if self.augmentation is None or not any(view.standard for view in drawn):
            drawn = drawn[:1]  # both are cut from the same pixels
        self.drawings = [view.drawing if view.standard else None for view in drawn]

    def __getitem__(self, key: tuple[int, int]) -> Tensor | PursuhintError:
        epoch, position = key
        try:
            image = read_image(self.split.path(position), self.channels, upright=self.split.upright)
        except PursuhintError as error:
            return error  # if raised here, DataLoader would put the worker's traceback into its message
        cut = [self._cut(image, drawing, epoch, position) for drawing in self.drawings]
        return cut[0] if len(cut) == 1 else torch.stack(cut)

    def _cut(self, image: Image.Image, drawing: Drawing | None, epoch: int, position: int) -> Tensor:
        """The pixels of a view; without a drawing, the middle of the image."""
        if drawing is None or self.augmentation is None:
            return to_tensor(fit(image, self.size, margin=self.margin))
        index = int(self.split.indices[position])
        generator = drawing.generator("augmentation", epoch, index)
        box, mirrored = self.augmentation.draw(image.height, image.width, generator)
        if drawing.alternate:
            first = torch.rand(1, generator=drawing.generator("flip", index)) < 0.5
            mirrored = bool(first) ^ (epoch % 2 == 1)
        return to_tensor(resized_crop(image, box, self.size, mirrored=mirrored))


def _stack(images: list[Tensor | PursuhintError]) -> Tensor | PursuhintError:
    for image in images:
        if isinstance(image, PursuhintError):
            return image
    return torch.stack([image for image in images if isinstance(image, Tensor)])
