"""Stronger augmentation, by name: batched versions of torchvision's v2 transforms.

``draw`` takes random numbers for every sample of a split; ``apply`` is deterministic. A sample's
augmentation is therefore identical on any device, in any batch and in any process.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.transforms.v2 import functional as TF


class Policy(ABC):
    """Base class of augmentations of single images.

    Attributes:
        needs_uint8: defined for images in 0..255 only.
        after_normalizing: applied to normalised images, in which 0 is the mean.
    """

    needs_uint8 = False
    after_normalizing = False

    @abstractmethod
    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw the random numbers of ``count`` samples, float32, shape (count, numbers)."""

    @abstractmethod
    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        """Augment images, (batch, channels, height, width), with one row of draws per image."""


def warp(images: Tensor, matrices: Tensor, *, nearest: bool = False) -> Tensor:
    """Resample each image along an affine map, with zeros outside the image.

    Equal to torchvision's ``affine`` with the same inverse matrix.

    Args:
        images: uint8 (results are rounded) or floating point, shape (batch, channels, height, width).
        matrices: per image the map from output to input coordinates, in pixels from the centre, x first;
            shape (batch, 2, 3).
        nearest: nearest-neighbour instead of bilinear interpolation.
    """
    height, width = images.shape[-2:]
    x = torch.arange(width, device=images.device) - (width - 1) / 2
    y = torch.arange(height, device=images.device) - (height - 1) / 2
    ones = torch.ones(height, width, device=images.device)
    base = torch.stack([x.expand(height, width), y[:, None].expand(height, width), ones], dim=-1)
    scale = _pair(width / 2, height / 2, images.device)
    grid = base.reshape(1, -1, 3) @ (matrices.transpose(1, 2) / scale)
    floats = images if images.is_floating_point() else images.to(torch.float32)
    moved = F.grid_sample(
        floats,
        grid.reshape(len(images), height, width, 2).to(floats),
        mode="nearest" if nearest else "bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    return moved if images.is_floating_point() else moved.round_().to(images.dtype)


def blend(images: Tensor, others: Tensor, factors: Tensor) -> Tensor:
    """``factor * image + (1 - factor) * other``, clipped to 0..255; uint8 in and out, as in torchvision.

    Args:
        images: shape (batch, channels, height, width).
        others: any shape that broadcasts to ``images``.
        factors: one per image, at least 0; 1 is the identity.
    """
    factors = _per_image(factors)
    mixed = images * factors + others * (1 - factors)
    return mixed.clamp_(0, 255).to(images.dtype)


def _pair(first: float, second: float, device: torch.device) -> Tensor:
    """Two numbers on a device, filled there: a copy from the host would force a GPU sync."""
    return torch.stack([torch.full((), float(number), device=device) for number in (first, second)])


def _smooth(images: Tensor) -> Tensor:
    """3x3 smoothing with unchanged border pixels: torchvision's sharpness factor 0."""
    channels = images.shape[1]
    kernel = torch.full((channels, 1, 3, 3), 1 / 13, device=images.device)
    kernel[:, :, 1, 1] = 5 / 13
    result = images.clone()
    means = F.conv2d(images.to(torch.float32), kernel, groups=channels)
    result[:, :, 1:-1, 1:-1] = means.round_().to(images.dtype)
    return result


def _per_image(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _gray(images: Tensor) -> Tensor:
    return images if images.shape[1] != 3 else TF.rgb_to_grayscale(images)


def _mean_gray(images: Tensor) -> Tensor:
    return _gray(images).to(torch.float32).mean((1, 2, 3), keepdim=True)


class Affine(Policy):
    """Random affine map of each image, bilinear: torchvision's ``RandomAffine``.

    Args:
        degrees: rotations are uniform in ``-degrees..degrees``.
        shift: shifts along each axis are uniform up to this share of the side, in whole pixels.
        scale: range of the scale, uniform.
    """

    def __init__(
        self, *, degrees: float = 15.0, shift: float = 0.1, scale: tuple[float, float] = (0.9, 1.1)
    ) -> None:
        self.degrees, self.shift, self.scale = degrees, shift, scale

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Rotation in degrees, horizontal and vertical shift as a share of the side, scale."""
        low = torch.tensor([-self.degrees, -self.shift, -self.shift, self.scale[0]])
        high = torch.tensor([self.degrees, self.shift, self.shift, self.scale[1]])
        return low + (high - low) * torch.rand(count, 4, generator=generator)

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        angle = torch.deg2rad(draws[:, 0])
        shift = (draws[:, 1:3] * _pair(width, height, draws.device)).round()
        cos, sin = angle.cos() / draws[:, 3], angle.sin() / draws[:, 3]
        linear = torch.stack([cos, sin, -sin, cos], dim=1).reshape(-1, 2, 2)
        return warp(images, torch.cat([linear, -linear @ shift[:, :, None]], dim=2))


class ColorJitter(Policy):
    """Brightness, then contrast, then saturation by a random factor.

    The formulas of torchvision's ``ColorJitter``, without hue. torchvision draws the order of the three per
    image; here it is fixed, so that a whole batch is processed together. Saturation skips grey images.

    Args:
        strength: factors are uniform in ``1 - strength .. 1 + strength``; in [0, 1].
    """

    needs_uint8 = True

    def __init__(self, *, strength: float = 0.4) -> None:
        self.strength = strength

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Factors of brightness, contrast and saturation."""
        return 1 + self.strength * (2 * torch.rand(count, 3, generator=generator) - 1)

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        images = blend(images, torch.zeros((), device=images.device), draws[:, 0])
        images = blend(images, _mean_gray(images), draws[:, 1])
        return images if images.shape[1] != 3 else blend(images, _gray(images), draws[:, 2])


class Cutout(Policy):
    """Zero a square with its centre anywhere in the image, clipped at the border.

    Reference: T. DeVries and G. W. Taylor, Improved Regularization of Convolutional Neural Networks with
    Cutout, 2017, https://arxiv.org/abs/1708.04552, with its size for CIFAR-100, 8 of 32 pixels.

    Args:
        share: side of the square as a share of the image's shorter side.
    """

    after_normalizing = True

    def __init__(self, *, share: float = 0.25) -> None:
        self.share = share

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Row and column of the centre as a fraction of the side, in [0, 1)."""
        return torch.rand(count, 2, generator=generator)

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        side = round(self.share * min(height, width))
        top = (draws[:, 0] * height).floor() - side // 2
        left = (draws[:, 1] * width).floor() - side // 2
        rows = torch.arange(height, device=images.device)
        columns = torch.arange(width, device=images.device)
        inside_rows = (rows >= top[:, None]) & (rows < top[:, None] + side)
        inside_columns = (columns >= left[:, None]) & (columns < left[:, None] + side)
        inside = inside_rows[:, :, None] & inside_columns[:, None, :]
        return images.masked_fill(inside[:, None], 0)


@dataclass(frozen=True)
class Ranges:
    """The largest strength of each of fourteen changes, as torchvision's tables have them.

    Attributes:
        shear: tangent of the angle.
        shift: in pixels, or with ``relative`` as a share of the side.
        relative: see ``shift``.
        rotation: in degrees.
        colors: how far the factors of brightness, color, contrast and sharpness are from 1.
        dropped_bits: of each channel's eight.
    """

    shear: float
    shift: float
    relative: bool
    rotation: float
    colors: float
    dropped_bits: int


WIDE = Ranges(shear=0.99, shift=32, relative=False, rotation=135, colors=0.99, dropped_bits=6)
"""Of TrivialAugment."""

NARROW = Ranges(shear=0.3, shift=150 / 331, relative=True, rotation=30, colors=0.9, dropped_bits=4)
"""Of RandAugment."""

CHANGES = (
    "identity", "shear-x", "shear-y", "translate-x", "translate-y", "rotate", "brightness", "color",
    "contrast", "sharpness", "posterize", "solarize", "autocontrast", "equalize",
)  # fmt: skip
STRENGTHS = 31


def change_one(images: Tensor, draws: Tensor, ranges: Ranges) -> Tensor:
    """Change each image in one of fourteen ways.

    Every operation runs on the whole batch, with the identity's strength for images that drew another one: to
    select images by operation would force a GPU sync. Nearest-neighbour resampling, zeros outside the image.
    Saturation skips grey images.

    Args:
        images: uint8, shape (batch, channels, height, width).
        draws: per image the index in `CHANGES`, the strength in 0..30, and the sign, -1 or 1.
        ranges: what the strength 30 is.
    """
    change, share, sign = draws[:, 0], draws[:, 1] / (STRENGTHS - 1), draws[:, 2]

    def chosen(name: str) -> Tensor:
        return change == CHANGES.index(name)

    def amount(name: str, most: float) -> Tensor:
        """Signed strength of an operation where it was drawn, else 0."""
        return torch.where(chosen(name), most * share * sign, 0.0)

    moved = warp(images, _moves(images, amount, ranges), nearest=True)
    bright = blend(moved, torch.zeros((), device=images.device), 1 + amount("brightness", ranges.colors))
    result = blend(bright, _mean_gray(bright), 1 + amount("contrast", ranges.colors))
    if images.shape[1] == 3:
        result = blend(result, _gray(result), 1 + amount("color", ranges.colors))
    if min(images.shape[-2:]) > 2:
        result = blend(result, _smooth(result), 1 + amount("sharpness", ranges.colors))
    dropped = torch.where(chosen("posterize"), (share * ranges.dropped_bits).round(), 0.0)
    dropped = _per_image(dropped.to(torch.uint8))
    result = torch.bitwise_left_shift(torch.bitwise_right_shift(result, dropped), dropped)
    threshold = torch.where(chosen("solarize"), 8.5 * (STRENGTHS - 1 - draws[:, 1]), 256.0)
    result = torch.where(result >= _per_image(threshold), 255 - result, result)
    result = torch.where(_per_image(chosen("autocontrast")), TF.autocontrast(result), result)
    return torch.where(_per_image(chosen("equalize")), TF.equalize(result), result)


def _moves(images: Tensor, amount: Callable[[str, float], Tensor], ranges: Ranges) -> Tensor:
    """Inverse affine maps of the five geometric operations, in pixels from the centre."""
    height, width = images.shape[-2:]
    shear_x, shear_y = amount("shear-x", ranges.shear), amount("shear-y", ranges.shear)
    # torchvision shifts by whole pixels, rounded towards zero.
    across, along = (width, height) if ranges.relative else (1, 1)
    move_x = amount("translate-x", ranges.shift * across).trunc()
    move_y = amount("translate-y", ranges.shift * along).trunc()
    angle = torch.deg2rad(amount("rotate", ranges.rotation))
    cos, sin = angle.cos(), angle.sin()
    # torchvision shears about the upper left corner; the maps here are about the centre.
    right, down = width / 2, height / 2
    first = torch.stack([cos, shear_x - sin, shear_x * down - move_x], dim=1)
    second = torch.stack([shear_y + sin, cos, shear_y * right - move_y], dim=1)
    return torch.stack([first, second], dim=1)


class TrivialAugment(Policy):
    """One change out of fourteen for each image, with a random strength: torchvision's TrivialAugmentWide.

    Reference: S. G. Müller and F. Hutter, TrivialAugment: Tuning-free Yet State-of-the-Art Data Augmentation,
    ICCV 2021, https://arxiv.org/abs/2103.10158, wide range, 31 strengths.
    """

    needs_uint8 = True

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Index of the operation, strength in 0..30, and sign, -1 or 1."""
        change = torch.randint(len(CHANGES), (count,), generator=generator)
        strength = torch.randint(STRENGTHS, (count,), generator=generator)
        sign = 2 * torch.randint(2, (count,), generator=generator) - 1
        return torch.stack([change, strength, sign], dim=1).to(torch.float32)

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        return change_one(images, draws, WIDE)


class RandAugment(Policy):
    """Several changes out of fourteen for each image, one after the other: torchvision's RandAugment.

    Reference: E. D. Cubuk, B. Zoph, J. Shlens and Q. V. Le, RandAugment: Practical Automated Data
    Augmentation with a Reduced Search Space, NeurIPS 2020, https://arxiv.org/abs/1909.13719.

    Args:
        changes: for each image, drawn with replacement.
        strength: of each of them, in 0..30.
    """

    needs_uint8 = True

    def __init__(self, *, changes: int = 2, strength: int = 10) -> None:
        self.changes, self.strength = changes, strength

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Indices of the operations, then their signs, -1 or 1."""
        change = torch.randint(len(CHANGES), (count, self.changes), generator=generator)
        sign = 2 * torch.randint(2, (count, self.changes), generator=generator) - 1
        return torch.cat([change, sign], dim=1).to(torch.float32)

    def apply(self, images: Tensor, draws: Tensor) -> Tensor:
        for change, sign in zip(*(half.unbind(1) for half in draws.split(self.changes, dim=1))):
            strength = torch.full_like(change, self.strength)
            images = change_one(images, torch.stack([change, strength, sign], dim=1), NARROW)
        return images


POLICIES: Mapping[str, type[Policy]] = MappingProxyType(
    {
        "trivial": TrivialAugment,
        "randaugment": RandAugment,
        "affine": Affine,
        "color": ColorJitter,
        "cutout": Cutout,
    }
)
"""Augmentations of single images, in the order in which they are applied."""
