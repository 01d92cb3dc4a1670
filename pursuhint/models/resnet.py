"""Residual networks for small images: resnet8 to resnet110, resnet8x4 and resnet32x4.

K. He, X. Zhang, S. Ren and J. Sun, Deep Residual Learning for Image Recognition, CVPR 2016,
https://arxiv.org/abs/1512.03385, section 4.2, with the 1x1 projections of its option B. State-dict keys and
numbers are those of RepDistiller and mdistiller, whose checkpoints load as they are.
"""

from __future__ import annotations

from torch import Tensor, nn

from pursuhint._util.size_bounds import DEEPEST_NETWORK, check_at_most
from pursuhint.errors import PursuhintError
from pursuhint.models.layers import conv1x1, conv3x3, init_kaiming_fan_out

__all__ = [
    "resnet8",
    "resnet8x4",
    "resnet14",
    "resnet20",
    "resnet32",
    "resnet32x4",
    "resnet44",
    "resnet56",
    "resnet110",
]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and the shortcut around them; the last activation acts on the sum.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the first convolution and of the shortcut.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = conv3x3(in_channels, out_channels, stride=stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv2 = conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                conv1x1(in_channels, out_channels, stride=stride), nn.BatchNorm2d(out_channels)
            )
        self.relu2 = nn.ReLU(inplace=True)

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, in_channels, H, W) to (batch, out_channels, H / stride, W / stride)."""
        out = self.relu1(self.bn1(self.conv1(features)))
        out = self.bn2(self.conv2(out))
        return self.relu2(out + self.downsample(features))


class CifarResNet(nn.Module):
    """Residual network of three stages at full, half and quarter resolution.

    Args:
        depth: weighted layers, 6 n + 2 for n residual blocks a stage.
        widths: channels of the stem and of the three stages.
        num_classes: number of logits.
        in_channels: channels of the images.

    Raises:
        PursuhintError: ``depth`` is not 6 n + 2 for an n of at least 1, or above any published.

    Example:
        >>> network = CifarResNet(20, num_classes=10)
        >>> network(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        depth: int,
        widths: tuple[int, int, int, int] = (16, 16, 32, 64),
        *,
        num_classes: int,
        in_channels: int = 3,
    ) -> None:
        super().__init__()
        check_at_most(DEEPEST_NETWORK, depth=depth)
        blocks, remainder = divmod(depth - 2, 6)
        if remainder or blocks < 1:
            raise PursuhintError(f"a CIFAR ResNet has 6 n + 2 layers (8, 14, 20, ...), got {depth}")
        self.conv1 = conv3x3(in_channels, widths[0])
        self.bn1 = nn.BatchNorm2d(widths[0])
        self.relu = nn.ReLU(inplace=True)
        self.layer1 = _stage(blocks, widths[0], widths[1], stride=1)
        self.layer2 = _stage(blocks, widths[1], widths[2], stride=2)
        self.layer3 = _stage(blocks, widths[2], widths[3], stride=2)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(widths[3], num_classes)
        self.stage_taps: tuple[str, ...] = ("relu", *(f"layer{stage}.{blocks - 1}" for stage in (1, 2, 3)))
        init_kaiming_fan_out(self)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (batch, num_classes), of images of any size, (batch, in_channels, height, width)."""
        out = self.relu(self.bn1(self.conv1(images)))
        out = self.layer3(self.layer2(self.layer1(out)))
        return self.fc(self.avgpool(out).flatten(1))


def _stage(blocks: int, in_channels: int, out_channels: int, *, stride: int) -> nn.Sequential:
    first = BasicBlock(in_channels, out_channels, stride=stride)
    return nn.Sequential(first, *(BasicBlock(out_channels, out_channels) for _ in range(blocks - 1)))


def resnet8(*, num_classes: int, in_channels: int = 3) -> CifarResNet:
    """8 layers, 3 residual blocks, 16-32-64 channels."""
    return CifarResNet(8, num_classes=num_classes, in_channels=in_channels)


def resnet14(*, num_classes: int, in_channels: int = 3) -> CifarResNet:
    """14 layers, 6 residual blocks, 16-32-64 channels."""
    return CifarResNet(14, num_classes=num_classes, in_channels=in_channels)


def resnet20(*, num_classes: int, in_channels: int = 3) -> CifarResNet:
    """20 layers, 9 residual blocks, 16-32-64 channels."""
    return CifarResNet(20, num_classes=num_classes, in_channels=in_channels)


def resnet32(*, num_classes: int, in_channels: int = 3) -> CifarResNet:
    """32 layers, 15 residual blocks, 16-32-64 channels."""
    return CifarResNet(32, num_classes=num_classes, in_channels=in_channels)


def resnet44(*, num_classes: int, in_channels: int = 3) -> CifarResNet:
    """44 layers, 21 residual blocks, 16-32-64 channels."""
    return CifarResNet(44, num_classes=num_classes, in_channels=in_channels)


def resnet56(*, num_classes: int, in_channels: int = 3) -> CifarResNet:
    """56 layers, 27 residual blocks, 16-32-64 channels."""
    return CifarResNet(56, num_classes=num_classes, in_channels=in_channels)


def resnet110(*, num_classes: int, in_channels: int = 3) -> CifarResNet:
    """110 layers, 54 residual blocks, 16-32-64 channels."""
    return CifarResNet(110, num_classes=num_classes, in_channels=in_channels)


def resnet8x4(*, num_classes: int, in_channels: int = 3) -> CifarResNet:
    """8 layers, 3 residual blocks, 64-128-256 channels after a stem of 32."""
    return CifarResNet(8, (32, 64, 128, 256), num_classes=num_classes, in_channels=in_channels)


def resnet32x4(*, num_classes: int, in_channels: int = 3) -> CifarResNet:
    """32 layers, 15 residual blocks, 64-128-256 channels after a stem of 32."""
    return CifarResNet(32, (32, 64, 128, 256), num_classes=num_classes, in_channels=in_channels)
