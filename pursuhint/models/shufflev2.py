"""ShuffleNet V2 for small images.

N. Ma, X. Zhang, H.-T. Zheng and J. Sun, ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture
Design, ECCV 2018, https://arxiv.org/abs/1807.11164, at width 1, with a 1x1 stem of stride 1. State-dict keys
and numbers are those of RepDistiller and mdistiller.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pursuhint.models.layers import ChannelShuffle, conv1x1, conv3x3

__all__ = ["ShuffleV2"]

_STEM = 24


class SplitUnit(nn.Module):
    """Identity on half of the channels, convolutions on the other half, then a channel shuffle.

    The last ReLU acts on both halves. The identity half is the output of a ReLU and not negative, so this
    changes no value; it gives the pre-activation feature all channels, as in the reference networks.

    Args:
        channels: of the input and of the output; even.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.conv1 = conv1x1(half, half)
        self.bn1 = nn.BatchNorm2d(half)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(half, half, groups=half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = conv1x1(half, half)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu2 = nn.ReLU(inplace=True)
        self.shuffle = ChannelShuffle(2)

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, channels, H, W) to the same shape."""
        passed, out = features.chunk(2, dim=1)
        out = self.relu1(self.bn1(self.conv1(out)))
        out = self.bn2(self.conv2(out))
        out = self.bn3(self.conv3(out))
        return self.shuffle(self.relu2(torch.cat([passed, out], dim=1)))


class DownUnit(nn.Module):
    """Two branches of stride 2, concatenated, then a channel shuffle.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, half from each branch; even.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        half = out_channels // 2
        self.conv1 = conv3x3(in_channels, in_channels, stride=2, groups=in_channels)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv2 = conv1x1(in_channels, half)
        self.bn2 = nn.BatchNorm2d(half)
        self.conv3 = conv1x1(in_channels, half)
        self.bn3 = nn.BatchNorm2d(half)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv4 = conv3x3(half, half, stride=2, groups=half)
        self.bn4 = nn.BatchNorm2d(half)
        self.conv5 = conv1x1(half, half)
        self.bn5 = nn.BatchNorm2d(half)
        self.relu2 = nn.ReLU(inplace=True)
        self.shuffle = ChannelShuffle(2)

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, in_channels, H, W) to (batch, out_channels, H / 2, W / 2)."""
        left = self.bn2(self.conv2(self.bn1(self.conv1(features))))
        right = self.relu1(self.bn3(self.conv3(features)))
        right = self.bn5(self.conv5(self.bn4(self.conv4(right))))
        return self.shuffle(self.relu2(torch.cat([left, right], dim=1)))


class ShuffleV2(nn.Module):
    """Three stages of 116, 232 and 464 channels at a half, a quarter and an eighth of the resolution.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
    """

    stage_taps: tuple[str, ...] = ("relu1", "layer1.3", "layer2.7", "layer3.3")

    def __init__(self, *, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = conv1x1(in_channels, _STEM)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.relu1 = nn.ReLU(inplace=True)
        self.layer1 = _stage(3, _STEM, 116)
        self.layer2 = _stage(7, 116, 232)
        self.layer3 = _stage(3, 232, 464)
        self.conv2 = conv1x1(464, 1024)
        self.bn2 = nn.BatchNorm2d(1024)
        self.relu2 = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(1024, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (batch, num_classes), of images of any size, (batch, in_channels, height, width)."""
        out = self.relu1(self.bn1(self.conv1(images)))
        out = self.layer3(self.layer2(self.layer1(out)))
        out = self.relu2(self.bn2(self.conv2(out)))
        return self.linear(self.avgpool(out).flatten(1))


def _stage(split_units: int, in_channels: int, out_channels: int) -> nn.Sequential:
    down = DownUnit(in_channels, out_channels)
    return nn.Sequential(down, *(SplitUnit(out_channels) for _ in range(split_units)))
