"""Mixup and CutMix: combine pairs of training images and their labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor

from pursuhint.data.batch import Batch


def mixup(images: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """Blend each image with its predecessor in the batch.

    Reference: H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, mixup: Beyond Empirical Risk Minimization,
    ICLR 2018, https://arxiv.org/abs/1710.09412.

    Args:
        images: floating point, shape (batch, channels, height, width).
        share: weight of the image itself, in [0, 1].
        generator: ignored; accepted so that all mixers share one signature.

    Returns:
        The mixed images and ``share``.
    """
    return images.roll(1, 0).lerp(images, share), share


def cutmix(images: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """Replace a rectangle of each image by the same rectangle of its predecessor in the batch.

    The rectangle has the aspect ratio of the image, is identical for the whole batch, and is clipped at the
    border, as in torchvision.

    Reference: S. Yun, D. Han, S. J. Oh, S. Chun, J. Choe and Y. Yoo, CutMix: Regularization Strategy to Train
    Strong Classifiers with Localizable Features, ICCV 2019, https://arxiv.org/abs/1905.04899.

    Args:
        images: shape (batch, channels, height, width).
        share: fraction of each image to keep, in [0, 1], before clipping.
        generator: draws the centre of the rectangle.

    Returns:
        The mixed images and the fraction kept after clipping.
    """
    height, width = images.shape[-2:]
    column = int(torch.randint(width, (), generator=generator))
    row = int(torch.randint(height, (), generator=generator))
    half = math.sqrt(1 - share) / 2
    half_height, half_width = int(half * height), int(half * width)
    top, bottom = max(row - half_height, 0), min(row + half_height, height)
    left, right = max(column - half_width, 0), min(column + half_width, width)
    mixed = images.clone()
    mixed[..., top:bottom, left:right] = images.roll(1, 0)[..., top:bottom, left:right]
    return mixed, 1 - (bottom - top) * (right - left) / (height * width)


Mixer = Callable[[Tensor, float, torch.Generator], tuple[Tensor, float]]

MIXERS: Mapping[str, Mixer] = MappingProxyType({"mixup": mixup, "cutmix": cutmix})
"""Augmentations that combine two images."""


def mix(batch: Batch, names: tuple[str, ...], generator: torch.Generator) -> Batch:
    """Apply one mixer, drawn uniformly from ``names``, with a share drawn uniformly from [0, 1).

    As torchvision's ``MixUp`` and ``CutMix`` with ``alpha=1``: one share for the whole batch; each sample is
    mixed with its predecessor. ``labels`` of the result holds the label with the larger share.

    Args:
        batch: images normalised, on any device.
        names: keys of `MIXERS`.
        generator: on the CPU; the number of values drawn does not depend on the batch size.
    """
    chosen = names[int(torch.randint(len(names), (), generator=generator))]
    drawn = float(torch.rand((), generator=generator))
    images, share = MIXERS[chosen](batch.images, drawn, generator)
    own, other = batch.labels, batch.labels.roll(1, 0)
    if share < 0.5:
        own, other, share = other, own, 1 - share
    return replace(batch, images=images, labels=own, other_labels=other, share=share)
