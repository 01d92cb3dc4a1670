"""Gradients that lie in memory as the feature maps do that they belong to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["channels_last_gradient"]


class _KeepLayout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        return features.view_as(features)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0].contiguous(memory_format=torch.channels_last)


def channels_last_gradient(features: Tensor) -> Tensor:
    """The same features, whose gradient comes back with the channels innermost if theirs are.

    Losses that average over channels or flatten a map make gradients with the channels outermost. Whatever
    the gradient meets on its way through the network (sums, activations, batch norms) then runs through
    memory in two orders at once, which takes several times as long as putting it in order here.

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
