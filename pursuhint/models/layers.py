"""Layers and initialisations shared by several networks."""

from __future__ import annotations

import math

from torch import Tensor, nn


def conv3x3(
    in_channels: int, out_channels: int, *, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """3x3 convolution that keeps the image size, up to its stride."""
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, groups=groups, bias=bias)


def conv1x1(
    in_channels: int, out_channels: int, *, stride: int = 1, groups: int = 1, bias: bool = False
) -> nn.Conv2d:
    """1x1 convolution."""
    return nn.Conv2d(in_channels, out_channels, 1, stride=stride, groups=groups, bias=bias)


class ChannelShuffle(nn.Module):
    """Interleave the channels of ``groups`` equal groups, so that grouped convolutions exchange information.

    Args:
        groups: number of groups; must divide the number of channels.
    """

    def __init__(self, groups: int) -> None:
        super().__init__()
        self.groups = groups

    def forward(self, features: Tensor) -> Tensor:
        """Shuffle features of shape (batch, channels, height, width)."""
        return features.unflatten(1, (self.groups, -1)).transpose(1, 2).flatten(1, 2)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


def init_kaiming_fan_out(network: nn.Module) -> None:
    """He initialisation of every convolution (normal, fan out); linear layers keep PyTorch's default."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def init_fan_out_normal(network: nn.Module, *, linear_std: float | None) -> None:
    """Normal(0, sqrt(2 / n)) for every convolution, n = kernel area times output channels; biases zero.

    For grouped convolutions this n exceeds the true fan out, as in the reference networks.

    Args:
        network: changed in place.
        linear_std: standard deviation of the linear layers' weights; None keeps PyTorch's default weights.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            fan_out = math.prod(module.kernel_size) * module.out_channels
            nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            if linear_std is not None:
                nn.init.normal_(module.weight, std=linear_std)
            nn.init.zeros_(module.bias)
