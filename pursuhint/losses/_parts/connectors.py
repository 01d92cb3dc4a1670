"""Learned maps from the student's features to the teacher's, built from plain sizes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.orthogonal import OrthogonalProjection

__all__ = [
    "Bottleneck",
    "ConvRegressor",
    "NormalizedConv",
    "NormalizedProjection",
    "PointwiseNetwork",
    "check_can_normalize",
    "match_width",
]

Size = tuple[int, int]


class ConvRegressor(nn.Module):
    """One convolution with maxout, batch norm and ReLU, if wanted, to the teacher's width and size.

    The convolution is the first of these that gives the teacher's height and width:

    1. the student's height is twice the teacher's, and half its width, rounded up, the teacher's: 3x3, stride
       2, padding 1;
    2. the teacher's are twice the student's: transposed 4x4, stride 2, padding 1;
    3. the student's is at least the teacher's: (1 + H_s - H_t) x (1 + W_s - W_t), no padding; 1x1 for equal
       sizes. Its weights grow with the square of the difference;
    4. otherwise: the map is averaged down to the smaller height and the smaller width of both, then 1x1. The
       caller does the same to the teacher's map (``output_size``).

    The first three are those of the reference implementation of FitNet, which fails on other sizes.

    Args:
        student_channels: channels that come in.
        teacher_channels: channels that go out.
        student_size: height and width that come in.
        teacher_size: height and width that are wanted.
        relu: end in a ReLU. Right for targets that are not negative, wrong for others.
        norm: batch norm behind the convolution.
        pieces: above 1, the convolution gives so many values for each of the teacher's channels, of which the
            largest is kept (maxout).
        orthogonal: in place of the convolution, average both maps down to the smaller size of both, as in the
            last case, and multiply by a semi-orthogonal matrix, see `OrthogonalProjection`.

    Attributes:
        output_size: height and width that go out: ``teacher_size``, but in the last case and ``orthogonal``.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        student_size: Size,
        teacher_size: Size,
        *,
        relu: bool = True,
        norm: bool = True,
        pieces: int = 1,
        orthogonal: bool = False,
    ) -> None:
        super().__init__()
        (height, width), (target_height, target_width) = student_size, teacher_size
        self.output_size: Size = teacher_size
        self.pool: nn.Module = nn.Identity()
        self.pieces = pieces
        channels = teacher_channels * pieces
        # The first case that fits, in the order of the class's docstring.
        if orthogonal:
            self.output_size = (min(height, target_height), min(width, target_width))
            self.pool = nn.AdaptiveAvgPool2d(self.output_size)
            self.conv: nn.Module = OrthogonalProjection(student_channels, channels)
        elif (height, (width + 1) // 2) == (2 * target_height, target_width):
            self.conv = nn.Conv2d(student_channels, channels, kernel_size=3, stride=2, padding=1)
        elif (2 * height, 2 * width) == (target_height, target_width):
            self.conv = nn.ConvTranspose2d(student_channels, channels, kernel_size=4, stride=2, padding=1)
        elif height >= target_height and width >= target_width:
            kernel = (1 + height - target_height, 1 + width - target_width)
            self.conv = nn.Conv2d(student_channels, channels, kernel_size=kernel)
        else:
            self.output_size = (min(height, target_height), min(width, target_width))
            self.pool = nn.AdaptiveAvgPool2d(self.output_size)
            self.conv = nn.Conv2d(student_channels, channels, kernel_size=1)
        self.bn: nn.Module = nn.BatchNorm2d(teacher_channels) if norm else nn.Identity()
        self.relu: nn.Module = nn.ReLU() if relu else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C_s, H_s, W_s) to (N, C_t, *output_size).

        Raises:
            PursuhintError: in training mode, a single value per channel, which batch norm cannot normalise.
        """
        features = self.conv(self.pool(features))
        if self.pieces > 1:
            features = features.unflatten(1, (-1, self.pieces)).amax(2)
        check_can_normalize(features, self.bn)
        output: Tensor = self.relu(self.bn(features))
        return output


class PointwiseNetwork(nn.Module):
    """Three 1x1 convolutions without bias, with ReLUs between them: one map, applied at every position.

    Args:
        student_channels: channels that come in.
        teacher_channels: channels in between and out.
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(student_channels, teacher_channels, kernel_size=1, bias=False)
        self.conv1 = nn.Conv2d(teacher_channels, teacher_channels, kernel_size=1, bias=False)
        self.conv2 = nn.Conv2d(teacher_channels, teacher_channels, kernel_size=1, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C_s, H, W) to (N, C_t, H, W)."""
        hidden = torch.relu(self.conv1(torch.relu(self.conv0(features))))
        output: Tensor = self.conv2(hidden)
        return output


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions without bias, with batch norm and ReLU behind each or all but the last.

    Args:
        student_channels: channels that come in.
        hidden_channels: channels in between.
        teacher_channels: channels that go out.
        end_in_relu: batch norm and ReLU behind the last convolution too.
    """

    def __init__(
        self, student_channels: int, hidden_channels: int, teacher_channels: int, *, end_in_relu: bool
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(student_channels, hidden_channels, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(hidden_channels)
        self.conv2 = nn.Conv2d(hidden_channels, hidden_channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(hidden_channels)
        self.conv3 = nn.Conv2d(hidden_channels, teacher_channels, kernel_size=1, bias=False)
        self.bn3: nn.Module = nn.BatchNorm2d(teacher_channels) if end_in_relu else nn.Identity()
        self.relu: nn.Module = nn.ReLU() if end_in_relu else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C_s, H, W) to (N, C_t, H, W).

        Raises:
            PursuhintError: in training mode, a single value per channel, which batch norm cannot normalise.
        """
        features = self.conv1(features)
        check_can_normalize(features, self.bn1)
        features = torch.relu(self.bn1(features))
        features = torch.relu(self.bn2(self.conv2(features)))
        output: Tensor = self.relu(self.bn3(self.conv3(features)))
        return output


def _normalized(features: Tensor, bn: nn.BatchNorm2d) -> Tensor:
    """The features after a batch norm that has enough values for it."""
    check_can_normalize(features, bn)
    output: Tensor = bn(features)
    return output


class NormalizedConv(nn.Module):
    """A convolution without bias and a batch norm, at the student's size.

    Args:
        student_channels: channels that come in.
        teacher_channels: channels that go out.
        kernel_size: odd sizes keep height and width, even ones take one position away from each.
    """

    def __init__(self, student_channels: int, teacher_channels: int, kernel_size: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            student_channels, teacher_channels, kernel_size, padding=(kernel_size - 1) // 2, bias=False
        )
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out", nonlinearity="relu")
        self.bn = nn.BatchNorm2d(teacher_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C_s, H, W) to (N, C_t, H, W).

        Raises:
            PursuhintError: in training mode, a single value per channel, which batch norm cannot normalise.
        """
        return _normalized(self.conv(features), self.bn)


class NormalizedProjection(nn.Module):
    """A semi-orthogonal matrix at every position, see `OrthogonalProjection`, and a batch norm.

    Args:
        student_channels: channels that come in.
        teacher_channels: channels that go out.
    """

    def __init__(self, student_channels: int, teacher_channels: int) -> None:
        super().__init__()
        self.project = OrthogonalProjection(student_channels, teacher_channels)
        self.bn = nn.BatchNorm2d(teacher_channels)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C_s, H, W) to (N, C_t, H, W).

        Raises:
            PursuhintError: in training mode, a single value per channel, which batch norm cannot normalise.
        """
        return _normalized(self.project(features), self.bn)


def match_width(student_channels: int, teacher_channels: int) -> nn.Module:
    """Nothing where both widths are equal, else a 1x1 convolution without bias from one to the other."""
    if student_channels == teacher_channels:
        return nn.Identity()
    return nn.Conv2d(student_channels, teacher_channels, kernel_size=1, bias=False)


def check_can_normalize(features: Tensor, network: nn.Module) -> None:
    """Refuse features of which batch norms in training mode would get a single value per channel.

    Args:
        features: what comes in, (N, C, ...).
        network: a batch norm, or a network that has some.

    Raises:
        PursuhintError: they would have to divide by a standard deviation of zero.
    """
    if features.numel() == features.shape[1] and any(
        isinstance(module, nn.BatchNorm2d) and module.training for module in network.modules()
    ):
        raise PursuhintError(
            "a batch of one sample with a 1x1 feature map cannot be normalised in training; "
            "use a larger batch, or drop the incomplete last one"
        )
