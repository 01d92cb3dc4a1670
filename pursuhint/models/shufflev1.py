"""ShuffleNet (first version) for small images.

X. Zhang, X. Zhou, M. Lin and J. Sun, ShuffleNet: An Extremely Efficient Convolutional Neural Network for
Mobile Devices, CVPR 2018, https://arxiv.org/abs/1707.01083, with 3 groups and a 1x1 stem of stride 1.
State-dict keys and numbers are those of RepDistiller and mdistiller, which unlike the paper activate after
the depthwise convolution as well.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pursuhint.models.layers import ChannelShuffle, conv1x1, conv3x3

__all__ = ["ShuffleV1"]

_GROUPS = 3
_STEM = 24


class ShuffleUnit(nn.Module):
    """Grouped 1x1, shuffle, depthwise 3x3 and grouped 1x1 convolution, beside a shortcut.

    At stride 1 the input is added; at stride 2 the average-pooled input is concatenated. The last activation
    follows the sum or the concatenation.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output, at stride 2 including the shortcut's.
        stride: 1 or 2.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        branch = out_channels - in_channels if stride == 2 else out_channels
        hidden = branch // 4
        # As in the paper, the first 1x1 convolution after the stem is not grouped: 24 channels are too few.
        groups = 1 if in_channels == _STEM else _GROUPS
        self.concatenates = stride == 2
        self.conv1 = conv1x1(in_channels, hidden, groups=groups)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.relu1 = nn.ReLU(inplace=True)
        self.shuffle = ChannelShuffle(groups)
        self.conv2 = conv3x3(hidden, hidden, stride=stride, groups=hidden)
        self.bn2 = nn.BatchNorm2d(hidden)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = conv1x1(hidden, branch, groups=_GROUPS)
        self.bn3 = nn.BatchNorm2d(branch)
        self.shortcut = nn.AvgPool2d(3, stride=2, padding=1) if stride == 2 else nn.Identity()
        self.relu3 = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, in_channels, H, W) to (batch, out_channels, H / stride, W / stride)."""
        out = self.shuffle(self.relu1(self.bn1(self.conv1(features))))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        shortcut = self.shortcut(features)
        return self.relu3(torch.cat([out, shortcut], dim=1) if self.concatenates else out + shortcut)


class ShuffleV1(nn.Module):
    """Three stages of 240, 480 and 960 channels at a half, a quarter and an eighth of the resolution.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
    """

    stage_taps: tuple[str, ...] = ("relu", "layer1.3", "layer2.7", "layer3.3")

    def __init__(self, *, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = conv1x1(in_channels, _STEM)
        self.bn1 = nn.BatchNorm2d(_STEM)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(4, _STEM, 240)
        self.layer2 = _stage(8, 240, 480)
        self.layer3 = _stage(4, 480, 960)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(960, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (batch, num_classes), of images of any size, (batch, in_channels, height, width)."""
        out = self.relu(self.bn1(self.conv1(images)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.linear(self.avgpool(out).flatten(1))


def _stage(units: int, in_channels: int, out_channels: int) -> nn.Sequential:
    first = ShuffleUnit(in_channels, out_channels, stride=2)
    return nn.Sequential(
        first, *(ShuffleUnit(out_channels, out_channels, stride=1) for _ in range(units - 1))
    )
