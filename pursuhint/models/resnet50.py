"""ResNet-50 with a stem for small images.

K. He, X. Zhang, S. Ren and J. Sun, Deep Residual Learning for Image Recognition, CVPR 2016,
https://arxiv.org/abs/1512.03385, table 1, but with a 3x3 stem of stride 1 and no max pooling. The stride sits
on the 3x3 convolution of a block. State-dict keys and numbers are those of RepDistiller and mdistiller
(``shortcut`` and ``linear``, not torchvision's ``downsample`` and ``fc``).
"""

from __future__ import annotations

from torch import Tensor, nn

from pursuhint.models.layers import conv1x1, conv3x3, init_kaiming_fan_out

__all__ = ["ResNet50"]


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions and the shortcut around them; the last activation acts on the sum.

    Args:
        in_channels: channels of the input.
        channels: channels of the 3x3 convolution; the output has four times as many.
        stride: of the 3x3 convolution and of the shortcut.
    """

    expansion = 4

    def __init__(self, in_channels: int, channels: int, *, stride: int = 1) -> None:
        super().__init__()
        out_channels = self.expansion * channels
        self.conv1 = conv1x1(in_channels, channels)
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(channels, channels, stride=stride)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv3 = conv1x1(channels, out_channels)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                conv1x1(in_channels, out_channels, stride=stride), nn.BatchNorm2d(out_channels)
            )
        self.relu3 = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, in_channels, H, W) to (batch, 4 channels, H / stride, W / stride)."""
        out = self.relu1(self.bn1(self.conv1(features)))
        out = self.relu2(self.bn2(self.conv2(out)))
        out = self.bn3(self.conv3(out))
        return self.relu3(out + self.shortcut(features))


class ResNet50(nn.Module):
    """50 layers: 16 bottleneck blocks in four stages of 256, 512, 1024 and 2048 channels.

    Args:
        num_classes: number of logits.
        in_channels: channels of the images.
    """

    stage_taps: tuple[str, ...] = ("relu", "layer1.2", "layer2.3", "layer3.5", "layer4.2")

    def __init__(self, *, num_classes: int, in_channels: int = 3) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, 64)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(3, 64, 64, stride=1)
        self.layer2 = _stage(4, 256, 128, stride=2)
        self.layer3 = _stage(6, 512, 256, stride=2)
        self.layer4 = _stage(3, 1024, 512, stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.linear = nn.Linear(2048, num_classes)
        init_kaiming_fan_out(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (batch, num_classes), of images of any size, (batch, in_channels, height, width)."""
        out = self.relu(self.bn1(self.conv1(images)))
        out = self.layer4(self.layer3(self.layer2(self.layer1(out))))
        return self.linear(self.avgpool(out).flatten(1))


def _stage(blocks: int, in_channels: int, channels: int, *, stride: int) -> nn.Sequential:
    first = Bottleneck(in_channels, channels, stride=stride)
    out_channels = Bottleneck.expansion * channels
    return nn.Sequential(first, *(Bottleneck(out_channels, channels) for _ in range(blocks - 1)))
