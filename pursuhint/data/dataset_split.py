"""A split whose samples a data set of the user gives one by one, read when a loader needs them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.utils.data import Dataset

from pursuhint._util.random_state import seeded
from pursuhint.errors import PursuhintError

__all__ = ["DatasetSplit"]

FINGERPRINTED = 500
"""Samples, evenly spaced, by whose pixels the fingerprint knows a split."""


class ImageReader(Protocol):
    """Gives the images of a data set one by one, see `pursuhint.data.samples.SampleReader`."""

    @property
    def name(self) -> str: ...

    def image(self, position: int) -> Tensor: ...

    def with_channels(self, channels: int) -> ImageReader: ...


@dataclass(frozen=True, eq=False, repr=False)
class DatasetSplit:
    """Samples of a map-style data set, read on demand.

    Attributes:
        reader: gives the images.
        labels: int64, shape (samples,).
        indices: int64, shape (samples,): position of each sample in the full training (or test) set.
        positions: int64, shape (samples,): position of each sample in the reader's data set.
        dtype: of the images, uint8 or float32.
        shape: (channels, height, width) that every image has.
        drawn: the data set transforms samples at random, by the global generators. These are seeded with
            seed, epoch and sample before each reading.
        private: the samples depend on random numbers of the data set's own, which no seed reaches.
        sampler: gives the positions of a training epoch, in place of a permutation; None without one.
    """

    reader: ImageReader
    labels: Tensor
    indices: Tensor
    positions: Tensor
    dtype: torch.dtype
    shape: tuple[int, ...]
    drawn: bool = False
    private: bool = False
    sampler: Any = None

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} samples)"

    def select(self, positions: Tensor) -> DatasetSplit:
        """The samples at ``positions``, in that order, with their original indices, and without a sampler."""
        return replace(
            self,
            labels=self.labels[positions],
            indices=self.indices[positions],
            positions=self.positions[positions],
            sampler=None,
        )

    def with_channels(self, channels: int) -> DatasetSplit:
        """The same images, converted from 3 or 1 channels into 1 or 3 when they are read."""
        shape = (channels, *self.shape[1:])
        return replace(self, reader=self.reader.with_channels(channels), shape=shape)

    def read(self, position: int, *, seed: int = 0, epoch: int = 0) -> Tensor:
        """The image at a position of the split, as the data set transforms it in an epoch.

        Raises:
            PursuhintError: the data set raised an error, or the image has another shape than the first.
        """
        place = int(self.positions[position])
        if self.drawn:
            with seeded("transform", seed, epoch, int(self.indices[position])):
                image = self.reader.image(place)
        else:
            image = self.reader.image(place)
        if tuple(image.shape) != self.shape or image.dtype != self.dtype:
            raise PursuhintError(
                f"sample {place} of {self.reader.name} is {image.dtype} of shape {tuple(image.shape)}, and "
                f"the first is {self.dtype} of shape {self.shape}; give all images one size and type in the "
                "data set's transform, or PIL images and image_size"
            )
        return image

    def sampled(self, seed: int, epoch: int) -> Tensor:
        """Positions of a training epoch, by the sampler, with generators seeded for the epoch."""
        with seeded("sampler", seed, epoch):
            drawn = [int(place) for place in flattened(self.sampler)]
        return torch.tensor(drawn, dtype=torch.int64)

    def content(self) -> str:
        """Hash of the images, by up to 500 evenly spaced ones as an epoch 0 of seed 0 has them.

        Empty where the data set has random numbers of its own: they are not the same twice.
        """
        if self.private:
            return ""
        digest = hashlib.sha256(f"{self.dtype} {self.shape}".encode())
        step = -(-len(self) // FINGERPRINTED)
        for position in range(0, len(self), step):
            digest.update(self.read(position).contiguous().numpy().tobytes())
        if self.sampler is not None and torch.equal(order := self.sampled(0, 0), self.sampled(0, 0)):
            digest.update(order.numpy().tobytes())  # unless it has random numbers of its own
        return digest.hexdigest()


def flattened(sampler: Any) -> list[Any]:
    """The positions that a sampler gives, or the batches of positions one after the other."""
    found: list[Any] = []
    for entry in sampler:
        found.extend(entry if isinstance(entry, list | tuple) else [entry])
    return found


class EpochImages(Dataset):
    """Images of a split by (epoch, position), for the worker processes of a loader."""

    def __init__(self, split: DatasetSplit, seed: int) -> None:
        self.split, self.seed = split, seed

    def __getitem__(self, key: tuple[int, int]) -> Tensor | PursuhintError:
        epoch, position = key
        try:
            return self.split.read(position, seed=self.seed, epoch=epoch)
        except PursuhintError as error:
            return error  # if raised here, DataLoader would put the worker's traceback into its message
