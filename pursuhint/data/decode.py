"""Decode image files to tensors."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from pursuhint._util.input_files import open_regular, shown
from pursuhint.data.preprocessing import covering_size
from pursuhint.data.splits import FileSplit
from pursuhint.errors import PursuhintError

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)

# Pillow chooses a decoder by content, whatever the suffix says, and some decoders start other programs:
# PostScript is passed to Ghostscript.
_FORMATS = ("BMP", "JPEG", "PNG", "PPM", "TIFF", "WEBP")

_GRAY_MODES = frozenset({"1", "L", "LA"})
_DEEP_MODES = frozenset({"I", "F", "I;16", "I;16B", "I;16L", "I;16N"})

Item = TypeVar("Item")
Result = TypeVar("Result")


class ImageHeader(NamedTuple):
    """Size in pixels of an image file, and whether it has one channel."""

    height: int
    width: int
    gray: bool


def _damaged(path: Path, error: Exception) -> PursuhintError:
    if isinstance(error, UnidentifiedImageError):
        reason = "it is not an image of a known kind"
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    else:
        reason = " ".join(str(error).split()) or type(error).__name__
    return PursuhintError(f"cannot read the image {shown(path)}: {reason}; replace or remove the file")


def _check_depth(path: Path, mode: str) -> None:
    if mode in _DEEP_MODES:
        raise PursuhintError(
            f"{shown(path)} has more than 8 bits a pixel (mode {mode}); convert it to 8 bits"
        )


_SIDEWAYS = (5, 6, 7, 8)  # values of EXIF orientation that exchange height and width
_ORIENTATION = 0x0112


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image in one of the documented formats, from a regular file."""
    with open_regular(path, "image") as file, Image.open(file, formats=_FORMATS) as image:
        yield image


def read_header(path: Path, *, upright: bool = True) -> ImageHeader:
    """Read size and channel count of an image without decoding its pixels.

    Args:
        path: the file.
        upright: turn the image as its EXIF orientation says.

    Raises:
        PursuhintError: not an image, or one with more than 8 bits a channel.
    """
    try:
        with _opened(path) as image:
            mode, (width, height) = image.mode, image.size
            if upright and image.getexif().get(_ORIENTATION) in _SIDEWAYS:
                width, height = height, width
    except PursuhintError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        raise _damaged(path, error) from error
    _check_depth(path, mode)
    return ImageHeader(height, width, mode in _GRAY_MODES)


def read_image(path: Path, channels: int, *, upright: bool = True) -> Image.Image:
    """Decode an image as greyscale (one channel) or RGB (three). Transparency is dropped.

    Args:
        path: the file.
        channels: 1 or 3.
        upright: turn the image as its EXIF orientation says, as photo viewers do.

    Raises:
        PursuhintError: the file is missing, truncated or damaged, or has more than 8 bits a channel.
    """
    try:
        with _opened(path) as file:
            _check_depth(path, file.mode)
            image: Image.Image = file
            if upright and file.getexif().get(_ORIENTATION, 1) != 1:
                image = ImageOps.exif_transpose(file)
            # Pillow warns when a palette with transparency is converted in one step.
            if image.mode == "P" and "transparency" in image.info:
                image = image.convert("RGBA")
            return image.convert("L" if channels == 1 else "RGB")
    except PursuhintError:
        raise
    except Exception as error:
        raise _damaged(path, error) from error


def to_tensor(image: Image.Image) -> Tensor:
    """uint8 tensor of shape (channels, height, width)."""
    pixels = np.array(image)
    return torch.from_numpy(
        pixels[None] if pixels.ndim == 2 else np.ascontiguousarray(pixels.transpose(2, 0, 1))
    )


def fit(image: Image.Image, size: tuple[int, int], *, margin: float = 1.0) -> Image.Image:
    """Resize so that the image just covers ``margin`` times ``size``, then cut ``size`` out of its centre.

    The aspect ratio is kept. An image that already has the target size is returned unchanged. Equal, for a
    square size, to torchvision's ``Resize(round(margin * side))`` and ``CenterCrop(side)``.

    Args:
        image: any size.
        size: target height and width in pixels.
        margin: at least 1; 256/224 in the ImageNet recipe.
    """
    if image.size == (size[1], size[0]):
        return image
    wanted = round(size[0] * margin), round(size[1] * margin)
    height, width = covering_size((image.height, image.width), wanted)
    # round() takes halves to the even neighbour, as torchvision does: an offset of one pixel changes results
    top, left = round((height - size[0]) / 2), round((width - size[1]) / 2)
    covering = image.resize((width, height), Image.Resampling.BILINEAR)
    return covering.crop((left, top, left + size[1], top + size[0]))


def resized_crop(
    image: Image.Image, box: tuple[int, int, int, int], size: tuple[int, int], *, mirrored: bool
) -> Image.Image:
    """Crop a box (top, left, height, width), resize it to ``size`` and optionally mirror it.

    Equal to torchvision's ``resized_crop`` (bilinear, antialiased) and ``hflip``.
    """
    top, left, height, width = box
    cut = image.crop((left, top, left + width, top + height))
    cut = cut.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return cut.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else cut


def read_headers(paths: Iterable[Path], *, upright: bool = True) -> list[ImageHeader]:
    """:func:`read_header` of many files, in threads."""
    return _in_threads(functools.partial(read_header, upright=upright), paths)


def decode_all(split: FileSplit, channels: int, size: tuple[int, int]) -> Tensor:
    """Decode every file of a split into memory, resized with :func:`fit`.

    Returns:
        uint8, shape (samples, channels, height, width).

    Raises:
        PursuhintError: a file cannot be decoded.
    """
    images = torch.empty((len(split), channels, *size), dtype=torch.uint8)

    def decode(position: int) -> None:
        images[position] = to_tensor(
            fit(read_image(split.path(position), channels, upright=split.upright), size)
        )

    _in_threads(decode, range(len(split)))
    return images


def _in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as threads:
        results = threads.map(function, items)
        try:
            return list(results)
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)  # the first damaged file is enough
            raise
