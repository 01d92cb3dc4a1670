"""How image files become the input of a network: size, resize rule, crop, normalisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from pursuhint._util.size_bounds import LARGEST_SIDE, check_at_most
from pursuhint.errors import PursuhintError

__all__ = ["Preprocessing"]


@dataclass(frozen=True)
class Preprocessing:
    """The steps from an image to a network's input, in this order: resize, crop, scale, normalise.

    Attributes:
        size: height and width in pixels of the input.
        resize: ``none``, images have the size already, or ``cover``: bilinear, antialiased, the aspect ratio
            kept, until the image covers ``crop`` times the size.
        crop: the image covers this multiple of ``size`` before its centre is cut out; 1 cuts off only what
            exceeds the aspect ratio.
        mean: per channel, subtracted after scaling.
        std: per channel, divided by.
        channels: 1 (grey) or 3 (RGB), or any number for tensors of the user.
        value_range: smallest and largest value before normalisation; None for images in units of their own.
        source: where ``mean`` and ``std`` come from.
        exif: images are turned as their EXIF orientation says, before anything else.
    """

    size: tuple[int, int]
    resize: str
    crop: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    channels: int
    value_range: tuple[float, float] | None
    source: str
    exif: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocessing:
        """From what `to_dict` gives; entries of later versions are left out."""
        known: dict[str, Any] = {
            field.name: values[field.name] for field in fields(cls) if field.name in values
        }
        for name, value in known.items():
            known[name] = tuple(value) if isinstance(value, list) else value
        return cls(**known)

    def line(self) -> str:
        """One line for people, such as ``images: 64x64, normalised with mean ... and deviation ...``."""
        height, width = self.size
        resize = ", turned by EXIF orientation" if self.exif else ""
        if self.resize == "cover":
            margin = "" if self.crop == 1 else f" {self.crop:.3g} times the size"
            resize += f", resize to cover{margin} and centre crop"
        constants = Normalization(self.mean, self.std, self.source)
        return f"images: {height}x{width}{resize}, normalised with {constants}"


ImageSize = int | tuple[int, int]
"""Side of a square, or height and width, in pixels."""


def height_and_width(size: ImageSize) -> tuple[int, int]:
    """Height and width in pixels; one number is both.

    Raises:
        PursuhintError: a side is below 1, or larger than any network takes.
    """
    height, width = (size, size) if isinstance(size, int) else size
    if min(height, width) < 1:
        shown = height if height == width else f"{height}x{width}"
        raise PursuhintError(f"image_size must be at least 1 pixel, got {shown}")
    check_at_most(LARGEST_SIDE, image_size=max(height, width))
    return height, width


def covering_size(own: tuple[int, int], target: tuple[int, int]) -> tuple[int, int]:
    """Height and width of an image that is resized, its aspect ratio kept, to just cover ``target``.

    Args:
        own: height and width of the image.
        target: height and width that must be covered.
    """
    (height, width), (target_height, target_width) = own, target
    if target_height * width >= target_width * height:  # the height decides how far to enlarge
        return target_height, target_height * width // height
    return target_width * height // width, target_width


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation per channel that a network expects of images in [0, 1].

    Attributes:
        mean: subtracted.
        std: divided by, above 0.
        source: where they come from, in words.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: str

    def __str__(self) -> str:
        mean, std = (" ".join(f"{value:.4g}" for value in values) for values in (self.mean, self.std))
        return f"mean {mean} and deviation {std} (from {self.source})"

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any], source: str) -> Normalization:
        """From a mapping with ``mean`` and ``std``."""
        return cls(tuple(map(float, values["mean"])), tuple(map(float, values["std"])), source)

    def for_channels(self, channels: int) -> Normalization | None:
        """For images of so many channels: one value holds for all, RGB constants are averaged for grey.

        Returns:
            None if the constants do not fit.
        """
        if len(self.mean) == channels:
            return self
        if len(self.mean) == 1:
            return Normalization(self.mean * channels, self.std * channels, self.source)
        if len(self.mean) == 3 and channels == 1:
            return Normalization((sum(self.mean) / 3,), (sum(self.std) / 3,), self.source)
        return None


ASKED_FOR = ", as asked for"
"""End of the source of the data's own constants if no network is to get converted images."""

AS_THEY_ARE = "nowhere: the images are used as they are"
"""Source of the constants 0 and 1 of floating-point images whose normalisation is unknown."""

ITS_TRANSFORM = "the data set's transform"
"""Source of constants that torchvision's transforms of a data set of the user name."""

OWN_SOURCES = ("the data", "the training images", ITS_TRANSFORM, "the caller")
"""Sources of constants that nobody chose for a network: one that expects others gets converted images."""

EVALUATION_MARGIN = 256 / 224
"""ImageNet's evaluation: images cover this multiple of the size before their centre is cut out."""

IMAGENET = Normalization((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), "ImageNet's constants")
