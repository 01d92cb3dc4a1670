"""Splits of a data set: images in memory, files decoded on demand, or samples of a data set of the user."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pursuhint._util.seeds import stable_permutation
from pursuhint.data.dataset_split import DatasetSplit
from pursuhint.errors import PursuhintError

__all__ = ["FileSplit", "MemorySplit", "Split"]


@dataclass(frozen=True, eq=False, repr=False)
class MemorySplit:
    """Images in memory, shared by every loader that reads them.

    Attributes:
        images: shape (samples, channels, height, width); uint8 in 0..255, which loaders scale to [0, 1], or
            float32, which they do not scale.
        labels: int64, shape (samples,).
        indices: int64, shape (samples,): position of each sample in the full training (or test) set.
        files: the image files that the images were decoded from, in the same order; None for other data.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor
    files: FileSplit | None = None
    _copies: dict[torch.device, MemorySplit] = field(default_factory=dict, init=False)

    @classmethod
    def whole(cls, images: Tensor, labels: Tensor) -> MemorySplit:
        """A split whose samples are numbered from 0."""
        return cls(images, labels, torch.arange(len(labels)))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} samples)"

    drawn = private = False  # the images are the same at every reading, see `DatasetSplit`

    @property
    def dtype(self) -> torch.dtype:
        """Of the images, uint8 or float32."""
        return self.images.dtype

    def select(self, positions: Tensor) -> MemorySplit:
        """The samples at ``positions``, in that order, with their original indices."""
        files = None if self.files is None else self.files.select(positions)
        return MemorySplit(self.images[positions], self.labels[positions], self.indices[positions], files)

    def on(self, device: torch.device | str) -> MemorySplit:
        """This split on ``device``; the copy is cached for the lifetime of the split."""
        # "cuda" and "cuda:0" may be one device: compare the device of an allocation.
        actual = torch.empty(0, device=device).device
        if actual == self.images.device:
            return self
        if actual not in self._copies:
            self._copies[actual] = MemorySplit(
                self.images.to(actual), self.labels.to(actual), self.indices.to(actual)
            )
        return self._copies[actual]


@dataclass(frozen=True, eq=False, repr=False)
class FileSplit:
    """Image files, decoded by the loader on demand.

    Attributes:
        folder: base of the relative paths.
        paths: numpy array of strings, shape (samples,). An array, not a list: reference counts written by
            worker processes would copy the pages of a list of a million strings.
        labels: int64, shape (samples,).
        indices: int64, shape (samples,): position of each sample in the full training (or test) set.
        upright: turn images as their EXIF orientation says.
    """

    folder: Path
    paths: np.ndarray
    labels: Tensor
    indices: Tensor
    upright: bool = False

    drawn = private = False  # the images are the same at every reading, see `DatasetSplit`

    @classmethod
    def whole(cls, folder: Path, paths: np.ndarray, labels: Tensor) -> FileSplit:
        """A split whose samples are numbered from 0."""
        return cls(folder, paths, labels, torch.arange(len(labels)))

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({len(self)} samples)"

    def path(self, position: int) -> Path:
        """Path of the file of one sample."""
        return self.folder / str(self.paths[position])

    def select(self, positions: Tensor) -> FileSplit:
        """The samples at ``positions``, in that order, with their original indices."""
        return replace(
            self,
            paths=self.paths[positions.numpy()],
            labels=self.labels[positions],
            indices=self.indices[positions],
        )


Split = MemorySplit | FileSplit | DatasetSplit


def check_labels(labels: Tensor, num_classes: int, where: str, *, first: int = 0) -> None:
    """Refuse labels outside ``first..first+num_classes-1``.

    Args:
        labels: integers, shape (samples,).
        num_classes: number of classes.
        where: file or split, for the message.
        first: the label of the first class (1 in STL-10's files).

    Raises:
        PursuhintError: names the first offending sample and its label.
    """
    wrong = (labels < first) | (labels >= first + num_classes)
    if wrong.any():
        position = int(wrong.nonzero()[0])
        raise PursuhintError(
            f"{where}: sample {position} has label {int(labels[position])}, "
            f"expected {first} to {first + num_classes - 1} ({num_classes} classes)"
        )


def skips_numbers(names: Sequence[str]) -> bool:
    """Whether classes are named by ascending numbers from 0 up that leave some out, as 10, 20, 30."""
    if not all(name.isascii() and name.isdigit() for name in names):
        return False
    numbers = [int(name) for name in names]
    return numbers == sorted(numbers) and numbers != list(range(len(numbers)))


def hold_out(labels: Tensor, count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Divide samples into two stratified subsets.

    Each class gives its proportional share of ``count``, rounded by the method of largest remainders (ties to
    the lower class), and keeps at least one sample. A hash of the positions selects the samples of a class,
    so the result depends on labels, ``count`` and ``seed`` alone, not on library versions.

    Args:
        labels: int64, at least 0, shape (samples,).
        count: total number of samples to hold out.
        seed: of the hash.

    Returns:
        Positions kept and positions held out, each int64 and ascending.

    Raises:
        PursuhintError: ``count`` is below 1, or so large that a class would lose its last sample.
    """
    sizes = torch.bincount(labels)
    room = (sizes - 1).clamp_min(0)
    if not 1 <= count <= int(room.sum()):
        raise PursuhintError(
            f"cannot hold out {count} of {len(labels)} samples: at least 1, and every class keeps one, "
            f"so at most {int(room.sum())}"
        )
    share = sizes * count  # in units of 1 / len(labels), so that the arithmetic is exact
    quota = torch.minimum(share // len(labels), room)
    while (lacking := count - int(quota.sum())) > 0:
        remainder = torch.where(quota < room, share - quota * len(labels), torch.iinfo(torch.int64).min)
        open_classes = min(lacking, int((quota < room).sum()))
        quota[torch.argsort(remainder, descending=True, stable=True)[:open_classes]] += 1
    shuffled = stable_permutation(len(labels), seed)
    by_class = shuffled[torch.argsort(labels[shuffled], stable=True)]
    rank = torch.arange(len(labels)) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
    chosen = rank < quota.repeat_interleave(sizes)
    return by_class[~chosen].sort().values, by_class[chosen].sort().values
