"""Mixup and CutMix: training images that are made of two, with the labels of both."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import torch
from torch import Tensor

from pursuhint.data.batch import Batch


def mixup(images: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """Blend each image with the one before it in the batch.

    Reference: H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, mixup: Beyond Empirical Risk Minimization,
    ICLR 2018, https://arxiv.org/abs/1710.09412.

    Args:
        images: floating point, shape (batch, channels, height, width).
        share: of each image itself, in [0, 1].
        generator: not used.

    Returns:
        The mixed images and the share.
    """
    return images.roll(1, 0).lerp(images, share), share


def cutmix(images: Tensor, share: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """Replace a rectangle of each image by what is there in the one before it in the batch.

    The rectangle has the shape of the image and is the same in the whole batch; what lies outside is cut off,
    as in torchvision.

    Reference: S. Yun, D. Han, S. J. Oh, S. Chun, J. Choe and Y. Yoo, CutMix: Regularization Strategy to Train
    Strong Classifiers with Localizable Features, ICCV 2019, https://arxiv.org/abs/1905.04899.

    Args:
        images: shape (batch, channels, height, width).
        share: of each image that is kept, in [0, 1], if nothing of the rectangle lies outside.
        generator: draws its centre.

    Returns:
        The mixed images and the share that was kept.
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
"""Those that make one image out of two."""


def mix(batch: Batch, names: tuple[str, ...], generator: torch.Generator) -> Batch:
    """Mix a batch in one of several ways, each as likely, by a share that is uniform in [0, 1).

    As torchvision's ``MixUp`` and ``CutMix`` with ``alpha=1``: one share and one partner, the sample before,
    for all samples of the batch. Of both labels the one with the larger share comes first.

    Args:
        batch: images normalised, on any device.
        names: of `MIXERS`.
        generator: on the CPU. The number of values drawn does not depend on the batch's size.
    """
    chosen = names[int(torch.randint(len(names), (), generator=generator))]
    drawn = float(torch.rand((), generator=generator))
    images, share = MIXERS[chosen](batch.images, drawn, generator)
    own, other = batch.labels, batch.labels.roll(1, 0)
    if share < 0.5:
        own, other, share = other, own, 1 - share
    return replace(batch, images=images, labels=own, other_labels=other, share=share)
