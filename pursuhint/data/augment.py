"""Augmentation and normalisation: torchvision's transforms, on whole batches of tensors.

``draw`` takes all random numbers from a generator that the caller passes; ``apply`` is deterministic. A
sample's augmentation is therefore identical on any device, in any batch and in any process.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Augmentation", "CropFlip", "ResizedCropFlip"]


_LUMA = (19595, 38470, 7471)
"""ITU-R 601-2 luma of red, green and blue, in units of 1/65536."""


def crop(images: Tensor, top: Tensor, left: Tensor, padding: int) -> Tensor:
    """Pad each image with zeros on all four sides and cut a window of the original size out of it.

    Equal to ``torchvision.transforms.functional.crop(pad(image, padding), top, left, height, width)``.

    Args:
        images: any dtype, shape (batch, channels, height, width).
        top: int64 in 0..2*padding, shape (batch,): rows above the window; ``padding`` leaves rows in place.
        left: columns to the left of the window, int64 in 0..2*padding, shape (batch,).
        padding: pixels added on each side.

    Returns:
        New tensor of the shape of ``images``.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, (padding, padding, padding, padding))
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # a view: (batch, channels, top, left, H, W)
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def flip(images: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the chosen images left to right.

    Args:
        images: shape (batch, channels, height, width).
        chosen: bool, shape (batch,).
    """
    return torch.where(chosen[:, None, None, None], images.flip(-1), images)


def normalize(images: Tensor, mean: Tensor | Sequence[float], std: Tensor | Sequence[float]) -> Tensor:
    """Scale uint8 images to [0, 1], then subtract ``mean`` and divide by ``std``, channel by channel.

    Equal, bit for bit, to torchvision's ``ToTensor`` followed by ``Normalize``.

    Args:
        images: uint8, or floating point (not scaled), shape (batch, channels, height, width).
        mean: per channel, shape (channels,), in units of the scaled image.
        std: per channel, above 0.

    Returns:
        New float32 tensor of the same shape.
    """
    mean = torch.as_tensor(mean, dtype=torch.float32, device=images.device)[:, None, None]
    std = torch.as_tensor(std, dtype=torch.float32, device=images.device)[:, None, None]
    if images.dtype == torch.uint8:
        return images.to(torch.float32).div_(255).sub_(mean).div_(std)
    return images.to(torch.float32).sub(mean).div_(std)


def converted(images: Tensor, channels: int) -> Tensor:
    """Grey images as RGB, by repetition, or RGB images as grey: their luma, for uint8 as Pillow rounds it.

    Args:
        images: uint8 or floating point, shape (samples, 1 or 3, height, width).
        channels: 3 or 1.
    """
    if channels == 3:
        return images.expand(-1, 3, -1, -1).contiguous()
    weights = torch.tensor(_LUMA, device=images.device)[:, None, None]
    if images.dtype != torch.uint8:
        return (images * (weights / (1 << 16))).sum(1, keepdim=True)
    grey = [  # one image at a time: a whole data set in int32 would take four times its memory
        ((image.to(torch.int32) * weights).sum(0, keepdim=True) + (1 << 15)) >> 16 for image in images
    ]
    return torch.stack(grey).to(torch.uint8)


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of every channel over all pixels of all images, as :func:`normalize` needs.

    Exact for uint8 (values are counted, not summed), float64 otherwise. A constant channel gets a standard
    deviation of 1.

    Args:
        images: uint8 (measured on the scale [0, 1]) or floating point, shape (samples, channels, H, W).

    Returns:
        Means and population standard deviations, one number a channel.
    """
    means, deviations = [], []
    for channel in images.unbind(1):
        if channel.dtype == torch.uint8:
            share = torch.bincount(channel.flatten(), minlength=256).to(torch.float64) / channel.numel()
            values = torch.arange(256, dtype=torch.float64, device=images.device) / 255
            mean = (share * values).sum()
            variance = (share * (values - mean).square()).sum()
        else:
            variance, mean = torch.var_mean(channel.to(torch.float64), correction=0)
        constant = bool(channel.min() == channel.max())  # its variance is 0 but for rounding
        means.append(float(mean))
        deviations.append(1.0 if constant else math.sqrt(float(variance)))
    return tuple(means), tuple(deviations)


@dataclass(frozen=True, eq=False)
class CropFlipDraws:
    """Random numbers of :class:`CropFlip` for some samples: ``top``, ``left`` (int64) and ``flip`` (bool)."""

    top: Tensor
    left: Tensor
    flip: Tensor

    def to(self, device: torch.device | str) -> CropFlipDraws:
        """Copy the draws to ``device``."""
        return CropFlipDraws(self.top.to(device), self.left.to(device), self.flip.to(device))

    def __getitem__(self, positions: Tensor) -> CropFlipDraws:
        return CropFlipDraws(self.top[positions], self.left[positions], self.flip[positions])


@dataclass(frozen=True)
class CropFlip:
    """Random crop after zero padding, then a horizontal flip of half of the images.

    Formula and distribution of torchvision's ``RandomCrop(size, padding=padding)`` and
    ``RandomHorizontalFlip()``, for images in memory.

    Attributes:
        padding: pixels of zeros on each side before the crop; 0 does not crop.
        flip: whether to flip; wrong for images whose class depends on left and right, such as digits.
    """

    padding: int = 0
    flip: bool = False

    def draw(self, count: int, generator: torch.Generator) -> CropFlipDraws:
        """Independent random numbers for ``count`` samples.

        Offsets are uniform over ``0..2*padding``; a flip has probability one half.
        """
        positions = 2 * self.padding + 1
        return CropFlipDraws(
            top=torch.randint(positions, (count,), generator=generator),
            left=torch.randint(positions, (count,), generator=generator),
            flip=torch.rand(count, dtype=torch.float32, generator=generator) < 0.5,
        )

    def apply(self, images: Tensor, draws: CropFlipDraws) -> Tensor:
        """Augment images, shape (batch, channels, height, width), with one draw a sample."""
        if self.padding:
            images = crop(images, draws.top, draws.left, self.padding)
        if self.flip:
            images = flip(images, draws.flip)
        return images


@dataclass(frozen=True)
class ResizedCropFlip:
    """Random crop of random area and aspect ratio, resized, flipped half of the time: ImageNet's recipe.

    Formula and distribution of torchvision's ``RandomResizedCrop`` (bilinear, antialiased) and
    ``RandomHorizontalFlip``, for images decoded from files.

    Attributes:
        scale: smallest and largest area of the crop, as a share of the image's.
        ratio: smallest and largest width/height of the crop, drawn uniformly in its logarithm.
        flip: whether to flip.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: bool = True

    def draw(
        self, height: int, width: int, generator: torch.Generator
    ) -> tuple[tuple[int, int, int, int], bool]:
        """Random crop for one image of the given size.

        Draws area and aspect ratio up to ten times until the crop fits into the image; after that, takes the
        largest central crop of an allowed aspect ratio.

        Returns:
            Top, left, height and width of the crop in pixels, and whether to flip.
        """
        box = self._draw_box(height, width, generator)
        mirrored = bool(torch.rand(1, dtype=torch.float32, generator=generator) < 0.5)
        return box, self.flip and mirrored

    def _draw_box(self, height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int]:
        # In float32 and in this order, so that a generator in the same state gives torchvision's crops.
        log_ratio = torch.log(torch.tensor(self.ratio, dtype=torch.float32)).tolist()
        number = torch.empty(1, dtype=torch.float32)
        for _ in range(10):
            area = height * width * number.uniform_(*self.scale, generator=generator).item()
            shape = number.uniform_(*log_ratio, generator=generator).exp().item()
            w, h = round(math.sqrt(area * shape)), round(math.sqrt(area / shape))
            if 0 < w <= width and 0 < h <= height:
                top = int(torch.randint(height - h + 1, (1,), generator=generator))
                left = int(torch.randint(width - w + 1, (1,), generator=generator))
                return top, left, h, w
        h = min(height, round(width / self.ratio[0]))
        w = min(width, round(height * self.ratio[1]))
        return (height - h) // 2, (width - w) // 2, h, w


Augmentation = CropFlip | ResizedCropFlip
