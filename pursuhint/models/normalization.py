"""The normalisation that a network expects, and networks that take images normalised otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pursuhint.data.preprocessing import IMAGENET, Normalization


def expected_normalization(network: nn.Module, name: str = "") -> Normalization | None:
    """Mean and deviation that a network was made for, read without downloading; None if it does not say.

    Args:
        network: timm's networks have a ``pretrained_cfg``, some others a ``default_cfg``.
        name: as typed; ``torchvision:NAME`` means ImageNet's constants, those of all its weights.
    """
    for attribute in ("pretrained_cfg", "default_cfg"):
        declared = getattr(network, attribute, None)
        if isinstance(declared, Mapping) and declared.get("mean") and declared.get("std"):
            return Normalization.from_mapping(declared, f"the network's {attribute}")
    if name.startswith("torchvision:"):
        return Normalization(IMAGENET.mean, IMAGENET.std, "ImageNet's constants, as torchvision's weights")
    return None


def convert_images(network: nn.Module, given: Normalization, expected: Normalization) -> nn.Module:
    """Let a network take images normalised with ``given``, by converting them to ``expected`` at its input.

    Args:
        network: changed in place, by a hook that copies of it keep.
        given: of the images that it will receive.
        expected: of the images that it was trained on.

    Returns:
        The network.
    """
    if (given.mean, given.std) != (expected.mean, expected.std):
        network.register_forward_pre_hook(_Conversion(given, expected))
    return network


class _Conversion:
    """(x * std_given + mean_given - mean_expected) / std_expected, as one factor and one offset."""

    def __init__(self, given: Normalization, expected: Normalization) -> None:
        rows = list(zip(given.mean, given.std, expected.mean, expected.std, strict=True))
        self._factor = [from_std / to_std for _, from_std, _, to_std in rows]
        self._offset = [(from_mean - to_mean) / to_std for from_mean, _, to_mean, to_std in rows]

    def __call__(self, module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        images: Tensor = inputs[0]
        factor, offset = (
            torch.tensor(values, dtype=images.dtype, device=images.device)[:, None, None]
            for values in (self._factor, self._offset)
        )
        return (images * factor + offset, *inputs[1:])
