"""MobileNet (version 1) with a width multiplier.

A. G. Howard et al., MobileNets: Efficient Convolutional Neural Networks for Mobile Vision Applications, 2017,
https://arxiv.org/abs/1704.04861. Names of the weights as in the code of generalized knowledge distillation
(Ye, Lu and Zhan, REFILLED), whose CUB-200 networks these are with widths 1, 0.75, 0.5 and 0.25.
"""

from __future__ import annotations

from torch import Tensor, nn

from pursuhint._util.size_bounds import WIDEST_NETWORK, check_at_most
from pursuhint.errors import PursuhintError
from pursuhint.models.layers import conv1x1, conv3x3, init_fan_out_normal

__all__ = ["MobileNetV1"]

# channels at width 1 and stride of each block
_BLOCKS = (
    (64, 1),
    (128, 2),
    (128, 1),
    (256, 2),
    (256, 1),
    (512, 2),
    *((512, 1),) * 5,
    (1024, 2),
    (1024, 1),
)


class SeparableBlock(nn.Module):
    """Depthwise 3x3 and pointwise 1x1 convolution, each with batch norm and ReLU.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the 3x3 convolution.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, in_channels, stride=stride, groups=in_channels)
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = conv1x1(in_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, in_channels, H, W) to (batch, out_channels, H / stride, W / stride)."""
        out = self.relu1(self.bn1(self.conv1(features)))
        return self.relu2(self.bn2(self.conv2(out)))


class MobileNetV1(nn.Module):
    """MobileNet with a total stride of 32, for images of 64 pixels and more.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        width: factor on all channel counts (the paper's alpha), at least 1/32.

    Raises:
        PursuhintError: ``width`` leaves a layer without channels.
    """

    # The last block of each resolution.
    stage_taps: tuple[str, ...] = ("relu", "layers.0", "layers.2", "layers.4", "layers.10", "layers.12")

    def __init__(self, *, num_classes: int, in_channels: int = 3, width: float = 1.0) -> None:
        super().__init__()
        check_at_most(WIDEST_NETWORK, width=width)
        channels = int(32 * width)
        if channels < 1:
            raise PursuhintError(f"the width of MobileNetV1 must be at least 1/32, got {width}")
        self.conv1 = conv3x3(in_channels, channels, stride=2)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU(inplace=True)
        self.layers = nn.Sequential()
        for full_width, stride in _BLOCKS:
            out_channels = int(full_width * width)
            self.layers.append(SeparableBlock(channels, out_channels, stride=stride))
            channels = out_channels
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        init_fan_out_normal(self, linear_std=0.01)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (batch, num_classes), of images of any size, (batch, in_channels, height, width)."""
        out = self.layers(self.relu(self.bn1(self.conv1(images))))
        return self.fc(self.pool(out).flatten(1))
