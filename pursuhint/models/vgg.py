"""VGG networks with batch normalisation for small images.

K. Simonyan and A. Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, ICLR 2015,
https://arxiv.org/abs/1409.1556, table 1, with batch normalisation, global pooling and one linear layer in
place of three. State-dict keys and numbers are those of RepDistiller and mdistiller.
"""

from __future__ import annotations

from torch import Tensor, nn

from pursuhint.errors import PursuhintError
from pursuhint.models.layers import init_fan_out_normal

__all__ = ["vgg8", "vgg11", "vgg13", "vgg16", "vgg19"]


class VGG(nn.Module):
    """Five stages of 64, 128, 256, 512 and 512 channels.

    The last activation of stage i is the module ``relu{i}``, outside ``block{i}``, so that ``block{i}`` keeps
    the numbering of the published state dicts.

    Args:
        convolutions: convolutions in each of the five stages.
        num_classes: number of logits.
        in_channels: channels of the images.
    """

    stage_taps: tuple[str, ...] = ("relu0", "relu1", "relu2", "relu3", "relu4")
    smallest_image = 8  # three poolings halve the image before the last stages

    def __init__(
        self, convolutions: tuple[int, int, int, int, int], *, num_classes: int, in_channels: int = 3
    ) -> None:
        super().__init__()
        self.block0 = _stage(convolutions[0], in_channels, 64)
        self.relu0 = nn.ReLU(inplace=True)
        self.pool0 = nn.MaxPool2d(2)
        self.block1 = _stage(convolutions[1], 64, 128)
        self.relu1 = nn.ReLU(inplace=True)
        self.pool1 = nn.MaxPool2d(2)
        self.block2 = _stage(convolutions[2], 128, 256)
        self.relu2 = nn.ReLU(inplace=True)
        self.pool2 = nn.MaxPool2d(2)
        self.block3 = _stage(convolutions[3], 256, 512)
        self.relu3 = nn.ReLU(inplace=True)
        self.pool3 = nn.MaxPool2d(2)
        self.block4 = _stage(convolutions[4], 512, 512)
        self.relu4 = nn.ReLU(inplace=True)
        self.pool4 = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(512, num_classes)
        init_fan_out_normal(self, linear_std=0.01)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of a batch of images.

        Args:
            images: shape (batch, in_channels, height, width), at least 8 x 8.

        Returns:
            Shape (batch, num_classes).

        Raises:
            PursuhintError: the images are smaller than 8 x 8.
        """
        height, width = images.shape[-2:]
        if min(height, width) < self.smallest_image:
            raise PursuhintError(f"VGG needs images of at least 8 x 8 pixels, got {height} x {width}")
        out = self.pool0(self.relu0(self.block0(images)))
        out = self.pool1(self.relu1(self.block1(out)))
        out = self.pool2(self.relu2(self.block2(out)))
        out = self.relu3(self.block3(out))
        # The reference pools here for a height of exactly 64 (Tiny ImageNet); larger images need it as well.
        if height >= 64:
            out = self.pool3(out)
        out = self.relu4(self.block4(out))
        return self.classifier(self.pool4(out).flatten(1))


def _stage(convolutions: int, in_channels: int, out_channels: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(convolutions):
        layers += [
            nn.Conv2d(in_channels, out_channels, 3, padding=1),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        ]
        in_channels = out_channels
    return nn.Sequential(*layers[:-1])  # the last activation is a module of the network


def vgg8(*, num_classes: int, in_channels: int = 3) -> VGG:
    """5 convolutions, one in each stage."""
    return VGG((1, 1, 1, 1, 1), num_classes=num_classes, in_channels=in_channels)


def vgg11(*, num_classes: int, in_channels: int = 3) -> VGG:
    """8 convolutions (configuration A of the paper)."""
    return VGG((1, 1, 2, 2, 2), num_classes=num_classes, in_channels=in_channels)


def vgg13(*, num_classes: int, in_channels: int = 3) -> VGG:
    """10 convolutions (configuration B of the paper)."""
    return VGG((2, 2, 2, 2, 2), num_classes=num_classes, in_channels=in_channels)


def vgg16(*, num_classes: int, in_channels: int = 3) -> VGG:
    """13 convolutions (configuration D of the paper)."""
    return VGG((2, 2, 3, 3, 3), num_classes=num_classes, in_channels=in_channels)


def vgg19(*, num_classes: int, in_channels: int = 3) -> VGG:
    """16 convolutions (configuration E of the paper)."""
    return VGG((2, 2, 4, 4, 4), num_classes=num_classes, in_channels=in_channels)
