"""Wide residual networks.

S. Zagoruyko and N. Komodakis, Wide Residual Networks, BMVC 2016, https://arxiv.org/abs/1605.07146. Blocks are
pre-activated: norm and activation precede each convolution, and the output of a block is the raw sum.
State-dict keys and numbers are those of RepDistiller and mdistiller.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pursuhint._util.size_bounds import DEEPEST_NETWORK, WIDEST_NETWORK, check_at_most
from pursuhint.errors import PursuhintError
from pursuhint.models.layers import conv1x1, conv3x3, init_fan_out_normal

__all__ = ["WideResNet"]


class WideBlock(nn.Module):
    """Norm, activation and 3x3 convolution, twice, and the shortcut around them.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        stride: of the first convolution and of the shortcut.
        dropout: probability of zeroing an activation before the second convolution.
        bias: whether convolutions have one.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        dropout: float = 0.0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = conv3x3(in_channels, out_channels, stride=stride, bias=bias)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu2 = nn.ReLU(inplace=True)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = conv3x3(out_channels, out_channels, bias=bias)
        self.convShortcut: nn.Conv2d | None = None  # the name is that of the published state dicts
        if in_channels != out_channels:
            self.convShortcut = conv1x1(in_channels, out_channels, stride=stride, bias=bias)

    def forward(self, features: Tensor) -> Tensor:
        """Map (batch, in_channels, H, W) to (batch, out_channels, H / stride, W / stride)."""
        activated = self.relu1(self.bn1(features))
        out = self.relu2(self.bn2(self.conv1(activated)))
        out = self.conv2(self.dropout(out))
        # As in the reference, a projection shortcut takes the activated input, an identity the raw one.
        return out + (features if self.convShortcut is None else self.convShortcut(activated))


class WideStage(nn.Module):
    """Blocks of one resolution, in ``layer``."""

    def __init__(
        self, blocks: int, in_channels: int, out_channels: int, *, stride: int, **options: Any
    ) -> None:
        super().__init__()
        first = WideBlock(in_channels, out_channels, stride=stride, **options)
        rest = (WideBlock(out_channels, out_channels, **options) for _ in range(blocks - 1))
        self.layer = nn.Sequential(first, *rest)

    def forward(self, features: Tensor) -> Tensor:
        """Apply the blocks in order."""
        return self.layer(features)


class WideResNet(nn.Module):
    """Wide residual network of three stages at full, half and quarter resolution.

    Args:
        depth: weighted layers, 6 n + 4 for n blocks a stage.
        width: the stages have 16, 32 and 64 times this many channels.
        num_classes: number of logits.
        in_channels: channels of the images.
        dropout: probability of zeroing an activation inside a block, in [0, 1).
        bias: whether convolutions have one, as in the REFILLED papers' networks.

    Raises:
        PursuhintError: ``depth`` is not 6 n + 4 for an n of at least 1, ``width`` is below 1, ``dropout`` is
            not in [0, 1), or depth or width is above any published.
    """

    def __init__(
        self,
        depth: int,
        width: int,
        *,
        num_classes: int,
        in_channels: int = 3,
        dropout: float = 0.0,
        bias: bool = False,
    ) -> None:
        super().__init__()
        check_at_most(DEEPEST_NETWORK, depth=depth)
        check_at_most(WIDEST_NETWORK, width=width)
        blocks, remainder = divmod(depth - 4, 6)
        if remainder or blocks < 1:
            below = max(10, 6 * blocks + 4)
            raise PursuhintError(
                f"a wide ResNet has 6 n + 4 layers, got {depth}; "
                f"the nearest are wrn_{below}_{width} and wrn_{below + 6}_{width}"
            )
        if width < 1:
            raise PursuhintError(f"the width of a wide ResNet must be at least 1, got {width}")
        if not 0 <= dropout < 1:
            raise PursuhintError(f"dropout must be in [0, 1), got {dropout}")
        inner = {"dropout": dropout, "bias": bias}
        self.conv1 = conv3x3(in_channels, 16, bias=bias)
        self.block1 = WideStage(blocks, 16, 16 * width, stride=1, **inner)
        self.block2 = WideStage(blocks, 16 * width, 32 * width, stride=2, **inner)
        self.block3 = WideStage(blocks, 32 * width, 64 * width, stride=2, **inner)
        self.bn1 = nn.BatchNorm2d(64 * width)
        self.relu = nn.ReLU(inplace=True)
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(64 * width, num_classes)
        # The stem has no norm and activation, so its tap is the convolution.
        last = blocks - 1
        self.stage_taps: tuple[str, ...] = ("conv1", *(f"block{stage}.layer.{last}" for stage in (1, 2, 3)))
        init_fan_out_normal(self, linear_std=None)

    def forward(self, images: Tensor) -> Tensor:
        """Logits, (batch, num_classes), of images of any size, (batch, in_channels, height, width)."""
        out = self.block3(self.block2(self.block1(self.conv1(images))))
        out = self.relu(self.bn1(out))
        return self.fc(self.avgpool(out).flatten(1))
