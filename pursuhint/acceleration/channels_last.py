"""Keep gradients of channels-last feature maps in channels-last layout."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["channels_last_gradient"]


class _KeepLayout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous(memory_format=torch.channels_last)


def channels_last_gradient(features: Tensor) -> Tensor:
    """The features unchanged; their gradient is converted to channels-last if they are channels-last.

    Losses that average over channels or flatten a map produce gradients in the default layout. Every backward
    step in the network (sums, activations, batch norms) would then read two layouts together, which takes
    several times as long as one conversion here.

    Args:
        features: of any shape; only maps (N, C, H, W) are touched.
    """
    if (
        features.requires_grad
        and features.ndim == 4
        and not features.is_contiguous()
        and features.is_contiguous(memory_format=torch.channels_last)
    ):
        kept: Tensor = _KeepLayout.apply(features)
        return kept
    return features


def channels_last_weights(network: nn.Module) -> None:
    """Store the weights of a network's convolutions over images with their channels last, in place.

    Other weights stay as they are, those of convolutions over signals and videos too.
    """
    for weights in network.parameters():
        if weights.ndim == 4:
            weights.data = weights.data.contiguous(memory_format=torch.channels_last)
