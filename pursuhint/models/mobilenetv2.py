"""MobileNetV2 for small images.

M. Sandler, A. Howard, M. Zhu, A. Zhmoginov and L.-C. Chen, MobileNetV2: Inverted Residuals and Linear
Bottlenecks, CVPR 2018, https://arxiv.org/abs/1801.04381. As in RepDistiller and mdistiller, whose state-dict
keys and numbers these are, the default width is 0.5, the activation is ReLU rather than ReLU6,
the second stage keeps the resolution, and channels are cut to whole numbers rather than to multiples of 8.
"""

from __future__ import annotations

from torch import Tensor, nn

from pursuhint._util.size_bounds import WIDEST_NETWORK, check_at_most
from pursuhint.errors import PursuhintError
from pursuhint.models.layers import conv1x1, conv3x3, init_fan_out_normal

__all__ = ["MobileNetV2"]

# expansion (None: the network's), channels at width 1, blocks, stride of the first block
_STAGES = (
    (1, 16, 1, 1),
    (None, 24, 2, 1),
    (None, 32, 3, 2),
    (None, 64, 4, 2),
    (None, 96, 3, 1),
    (None, 160, 3, 2),
    (None, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise 3x3 and 1x1 projection without activation.

    The output is linear, so pre- and post-activation features coincide.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output; the input is added where it has the same shape.
        stride: of the 3x3 convolution.
        expansion: channels inside the block, in multiples of ``in_channels``.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        self.adds_input = stride == 1 and in_channels == out_channels
        hidden = in_channels * expansion
        self.conv = nn.Sequential(
            conv1x1(in_channels, hidden),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            conv3x3(hidden, hidden, stride=stride, groups=hidden),
            nn.BatchNorm2d(hidden),
            nn.ReLU(inplace=True),
            conv1x1(hidden, out_channels),
            nn.BatchNorm2d(out_channels),
        )

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, in_channels, H, W) to (batch, out_channels, H / stride, W / stride)."""
        out = self.conv(features)
        return features + out if self.adds_input else out


class MobileNetV2(nn.Module):
    """MobileNetV2 with a total stride of 16.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
        width: factor on all channel counts, at least 1/16; the 1280 channels before the classifier grow
            with it but do not shrink.
        expansion: channels inside a block, in multiples of its input's.

    Raises:
        PursuhintError: ``width`` leaves a layer without channels, or ``expansion`` is below 1.
    """

    stage_taps: tuple[str, ...] = ("conv1", "blocks.1.1", "blocks.2.2", "blocks.4.2", "blocks.6.0")

    def __init__(
        self, *, num_classes: int, in_channels: int = 3, width: float = 0.5, expansion: int = 6
    ) -> None:
        super().__init__()
        if int(16 * width) < 1:
            raise PursuhintError(f"the width of MobileNetV2 must be at least 1/16, got {width}")
        if expansion < 1:
            raise PursuhintError(f"the expansion of MobileNetV2 must be at least 1, got {expansion}")
        check_at_most(WIDEST_NETWORK, width=width)
        channels = int(32 * width)
        self.conv1 = nn.Sequential(
            conv3x3(in_channels, channels, stride=2), nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        )
        self.blocks = nn.Sequential()
        for own_expansion, full_width, count, stride in _STAGES:
            stage = nn.Sequential()
            for index in range(count):
                block = InvertedResidual(
                    channels,
                    int(full_width * width),
                    stride=stride if index == 0 else 1,
                    expansion=own_expansion or expansion,
                )
                stage.append(block)
                channels = int(full_width * width)
            self.blocks.append(stage)
        embedding = max(1280, int(1280 * width))
        self.conv2 = nn.Sequential(
            conv1x1(channels, embedding), nn.BatchNorm2d(embedding), nn.ReLU(inplace=True)
        )
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Sequential(nn.Linear(embedding, num_classes))
        init_fan_out_normal(self, linear_std=0.01)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (batch, num_classes), of images of any size, (batch, in_channels, height, width)."""
        out = self.conv2(self.blocks(self.conv1(images)))
        return self.classifier(self.avgpool(out).flatten(1))
