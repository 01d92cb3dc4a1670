"""Samples of a data set of the user: what an item holds, and whether it changes from reading to reading."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pursuhint._util.random_state import seeded
from pursuhint.data.augment import converted
from pursuhint.data.decode import eight_bits, fit, to_tensor
from pursuhint.errors import PursuhintError

LABEL_KEYS = ("labels", "label", "target", "targets", "y", "fine_label", "class")
"""Names under which items that are mappings have their label, the first that is found."""

PROBED = 8
"""Samples that are read twice to see whether they are the same both times."""


@dataclass(frozen=True, eq=False)
class SampleReader:
    """Reads single samples of a map-style data set.

    Attributes:
        dataset: has ``len()`` and whole-number indices; an item is (input, label) or a mapping with a label.
        name: of the data set, for messages.
        collate: the function of a `torch.utils.data.DataLoader` that makes a batch of items, called with one
            item at a time; None where items are used as they are.
        input_key: which entry of a mapping is the image; None for pairs.
        label_key: which entry of a mapping is the label; None for pairs.
        size: height and width to which PIL images are resized and cut; None for images that have one size.
        channels: 1 or 3, into which images of 3 or 1 are converted; None for the images' own.
    """

    dataset: Any
    name: str
    collate: Any = None
    input_key: str | None = None
    label_key: str | None = None
    size: tuple[int, int] | None = None
    channels: int | None = None

    def item(self, position: int) -> Any:
        """An item of the data set, collated if it has a function for it.

        Raises:
            PursuhintError: the data set raised an error; it is the cause.
        """
        try:
            item = self.dataset[position]
            return item if self.collate is None else first_of(self.collate([item]))
        except Exception as error:
            if isinstance(error, MemoryError):
                raise
            raise PursuhintError(
                f"sample {position} of {self.name} cannot be read: {type(error).__name__}: {str(error)[:200]}"
            ) from error

    def parts(self, item: Any) -> tuple[Any, Any]:
        """Input and label of an item.

        Raises:
            PursuhintError: it is neither a pair nor a mapping with a label.
        """
        if isinstance(item, Mapping):
            key = self.label_key or next((key for key in LABEL_KEYS if key in item), None)
            if key not in item:
                raise PursuhintError(
                    f"an item of {self.name} has the entries {', '.join(map(str, item))}, and none of them "
                    f"is a label; name it {LABEL_KEYS[0]} or {LABEL_KEYS[1]}"
                )
            inputs = {name: value for name, value in item.items() if name != key}
            return (inputs if self.input_key is None else inputs[self.input_key]), item[key]
        if isinstance(item, tuple | list) and len(item) >= 2:
            return item[0], item[1]
        raise PursuhintError(
            f"an item of {self.name} must be (input, label) or a mapping with a label, got a "
            f"{type(item).__name__}{f' of {len(item)} entry' if isinstance(item, tuple | list) else ''}"
        )

    def with_channels(self, channels: int) -> SampleReader:
        """A reader that converts images of 3 or 1 channels into 1 or 3."""
        return replace(self, channels=channels)

    def image(self, position: int) -> Tensor:
        """One image, (channels, height, width), uint8 in 0..255 or float32 as the data set gives it."""
        return self.image_of(self.parts(self.item(position))[0], position)

    def image_of(self, value: Any, position: int) -> Tensor:
        """An image as a tensor.

        Args:
            value: PIL image, tensor or array; the channels of an array of uint8 may be last.
            position: of the sample, for messages.
        """
        if isinstance(value, Image.Image):
            value = eight_bits(value, f"sample {position} of {self.name}")
            value = value if value.mode in ("L", "RGB") else value.convert("RGB")
            pixels = to_tensor(value if self.size is None else fit(value, self.size))
        else:
            pixels = value.detach().cpu() if isinstance(value, Tensor) else channels_first(np.asarray(value))
            pixels = pixels[None] if pixels.ndim == 2 else pixels
            if self.size is not None and tuple(pixels.shape[-2:]) != self.size:
                raise PursuhintError(
                    f"sample {position} of {self.name} has {pixels.shape[-2]}x{pixels.shape[-1]} pixels, and "
                    "only PIL images are resized; leave image_size out, or resize in the data set's transform"
                )
        if pixels.dtype != torch.uint8:
            pixels = pixels.to(torch.float32)
        if self.channels not in (None, len(pixels)) and {self.channels, len(pixels)} == {1, 3}:
            assert self.channels is not None
            pixels = converted(pixels[None], self.channels)[0]
        return pixels


def first_of(batch: Any) -> Any:
    """The only sample of a collated batch, with the structure of the batch."""
    if isinstance(batch, Mapping):
        return {name: first_of(value) for name, value in batch.items()}
    if isinstance(batch, Tensor | np.ndarray):
        return batch[0]
    if isinstance(batch, tuple | list) and len(batch) == 1 and not isinstance(batch[0], Tensor):
        return batch[0]
    if isinstance(batch, tuple | list):
        return tuple(map(first_of, batch))
    raise TypeError(f"the collate function returned a {type(batch).__name__}")


def channels_first(array: np.ndarray) -> Tensor:
    """An array (height, width, channels) with its channels first; (channels, height, width) as it is."""
    if array.ndim == 3 and array.shape[2] in (1, 3, 4) and array.shape[0] not in (1, 3, 4):
        array = array.transpose(2, 0, 1)
    return torch.from_numpy(np.ascontiguousarray(array))


def is_image(value: Any) -> bool:
    """Whether an input is an image: a PIL image, or a tensor or array of pixels of two or three axes."""
    if isinstance(value, Image.Image):
        return True
    if not isinstance(value, Tensor | np.ndarray):
        return False
    dtype = str(value.dtype).removeprefix("torch.")
    return (value.ndim == 3 and (dtype == "uint8" or "float" in dtype)) or (
        value.ndim == 2 and dtype == "uint8"
    )


@dataclass(frozen=True)
class Randomness:
    """How samples change from one reading to the next.

    Attributes:
        drawn: they depend on the global random generators, so that a seed decides them.
        private: they differ even with equal seeds: the data set has random numbers of its own.
    """

    drawn: bool
    private: bool

    @classmethod
    def of(cls, reader: SampleReader, positions: Sequence[int]) -> Randomness:
        """Read some samples twice with equal seeds: are they equal, and do they draw random numbers?"""
        drawn = private = False
        for position in positions:
            readings = []
            for _ in range(2):
                with seeded("probe", position):
                    before = _generators()
                    readings.append(reader.parts(reader.item(position))[0])
                    drawn = drawn or _generators() != before
            private = private or not _equal(*readings)
        return cls(drawn, private)


def _generators() -> tuple[Any, ...]:
    """The state of the global generators, comparable."""
    state: Any = np.random.get_state(legacy=True)  # noqa: NPY002
    return (
        random.getstate(),
        bytes(np.asarray(state[1]).data),
        state[2],
        torch.get_rng_state().numpy().tobytes(),
    )


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(_equal(one[key], other[key]) for key in one)
    if isinstance(one, Tensor | np.ndarray | Image.Image):
        first, second = np.asarray(one), np.asarray(other)
        return first.shape == second.shape and np.array_equal(first, second, equal_nan=True)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_equal, one, other))
    return bool(one == other)
