"""Decode image files to tensors."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
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

_16_BITS = frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_GRAY_MODES = frozenset({"1", "L", "LA"}) | _16_BITS
_DEEP_MODES = frozenset({"I", "F"})
_SCALE = 65535 / 255  # of 16 bits to 8
_LOOKED_AT = 32  # images of 16 bits
_FEW_BITS = 4096  # below this, 16 bits hold 12 or fewer, of which scaling would leave 16 shades of grey

Item = TypeVar("Item")
Result = TypeVar("Result")


class ImageHeader(NamedTuple):
    """Size in pixels of an image file, whether it has one channel, and whether that has 16 bits."""

    height: int
    width: int
    gray: bool
    deep: bool = False


def _damaged(path: Path, error: Exception) -> PursuhintError:
    if isinstance(error, UnidentifiedImageError):
        reason = "it is not an image of a known kind"
    elif isinstance(error, OSError) and error.strerror:
        reason = error.strerror
    else:
        reason = " ".join(str(error).split()) or type(error).__name__
    return PursuhintError(f"cannot read the image {shown(path)}: {reason}; replace or remove the file")


def _mode_of(name: str, image: Image.Image) -> str:
    """Pillow's mode, which for grey PNG files of 16 bits is that of 32 in old versions.

    Raises:
        PursuhintError: it has 32 bits, or floating-point values, which have no known range.
    """
    mode = "I;16" if image.mode == "I" and image.format == "PNG" else image.mode
    if mode in _DEEP_MODES:
        raise PursuhintError(
            f"{name} has more than 16 bits a pixel (mode {mode}); convert it to 8 or 16 bits"
        )
    return mode


def has_16_bits(image: Image.Image) -> bool:
    """Whether an image has one channel of 16 bits."""
    return image.mode in _16_BITS or (image.mode == "I" and image.format == "PNG")


def eight_bits(image: Image.Image, name: str) -> Image.Image:
    """The image, scaled to 8 bits if it has 16.

    Args:
        image: any.
        name: of the image, for messages.

    Raises:
        PursuhintError: it has 32 bits, or floating-point values, which have no known range.
    """
    return _to_8_bits(image) if _mode_of(name, image) in _16_BITS else image


def _to_8_bits(image: Image.Image) -> Image.Image:
    """A grey image of 16 bits with 0 to 65535 scaled to 0 to 255; Pillow would cut off what is above 255."""
    return Image.fromarray((np.asarray(image) / _SCALE).round().astype(np.uint8))


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
        PursuhintError: not an image, or one with more than 16 bits a pixel of one channel.
    """
    try:
        with _opened(path) as image:
            mode, (width, height) = _mode_of(shown(path), image), image.size
            if upright and image.getexif().get(_ORIENTATION) in _SIDEWAYS:
                width, height = height, width
    except PursuhintError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file makes them stumble over
        raise _damaged(path, error) from error
    return ImageHeader(height, width, mode in _GRAY_MODES, mode in _16_BITS)


def check_16_bits(paths: Sequence[Path]) -> None:
    """Check that grey images of 16 bits use more of them than 12, as scaling to 8 bits supposes.

    Args:
        paths: of such images, of which the first are looked at.

    Raises:
        PursuhintError: none of these does, or one cannot be read.
    """
    most = 0
    for path in paths[:_LOOKED_AT]:
        try:
            with _opened(path) as image:
                most = max(most, int(np.asarray(image).max()))
        except PursuhintError:
            raise
        except Exception as error:
            raise _damaged(path, error) from error
    if most < _FEW_BITS:
        raise PursuhintError(
            f"images such as {shown(paths[0])} have 16 bits a pixel, but no value above {most}, of which 8 "
            "bits would leave few shades; scale them to the whole range of 16 bits, or convert them to 8 bits"
        )


def read_image(path: Path, channels: int, *, upright: bool = True) -> Image.Image:
    """Decode an image as greyscale (one channel) or RGB (three). Transparency is dropped.

    Grey values of 16 bits are scaled to 8.

    Args:
        path: the file.
        channels: 1 or 3.
        upright: turn the image as its EXIF orientation says, as photo viewers do.

    Raises:
        PursuhintError: the file is missing, truncated or damaged, or has more than 16 bits a pixel of one
            channel.
    """
    try:
        with _opened(path) as file:
            mode = _mode_of(shown(path), file)
            image: Image.Image = file
            if upright and file.getexif().get(_ORIENTATION, 1) != 1:
                image = ImageOps.exif_transpose(file)
            if mode in _16_BITS:
                image = _to_8_bits(image)
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
