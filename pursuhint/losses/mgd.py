"""Masked generative distillation (Yang et al., 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.maps import as_maps, pool_to_smaller
from pursuhint.losses._parts.masks import hashed_uniform
from pursuhint.losses.base import HintsLoss
from pursuhint.losses.checks import check_choice

__all__ = ["MaskedGenerativeLoss"]

Masked = Literal["channels", "positions"]

_SEEDS = 2**31


class MaskedGenerativeLoss(HintsLoss):
    r"""Ask the student to restore the teacher's features from a part of its own.

    .. math:: L = \frac1b \sum_i \lVert G \big( M_i \odot A(F_S)_i \big) - (F_T)_i \rVert_F^2 ,

    summed over the pairs of hint points. :math:`A` is a 1x1 convolution to the teacher's width where widths
    differ, :math:`M` zeroes a share of the channels (or of the positions), and :math:`G` is a 3x3
    convolution, ReLU and another one, of the teacher's width. Both are trained along with the student and not
    needed afterwards. Where sizes differ, the larger map is averaged down first.

    The mask is a hash of the sample's index, the epoch, and the seed that PyTorch had when the loss was built
    (that of the run): it does not depend on the order of the samples, and a resumed run draws the masks of an
    uninterrupted one.

    Reference: Z. Yang, Z. Li, M. Shao, D. Shi, Z. Yuan and C. Yuan, Masked Generative Distillation, ECCV
    2022, https://arxiv.org/abs/2205.01529. The weight (the paper's :math:`\alpha`) is that of the authors'
    code for CIFAR-100; for ImageNet it is 7e-5. Both mask a share of 0.15 and look at the end of the last
    stage. Dense tasks mask positions, 0.65 of them for RetinaNet.

    Args:
        student_channels: width of the student's features at every hint point.
        teacher_channels: width of the teacher's features at every hint point.
        mask_ratio: share of what is zeroed, in [0, 1).
        masked: ``"channels"``, as for classification, or ``"positions"``, as for dense tasks.
        align: whether the 1x1 convolution is there; None for where widths differ.

    Raises:
        PursuhintError: ``mask_ratio`` is out of range, or ``align`` is false and widths differ.

    Example:
        >>> loss = MaskedGenerativeLoss([16], [64])
        >>> loss([torch.randn(8, 16, 4, 4)], [torch.randn(8, 64, 4, 4)], torch.arange(8)).shape
        torch.Size([])
    """

    info = HintsLoss.info.replace(
        title="MGD",
        paper="Yang et al., Masked Generative Distillation, ECCV 2022",
        learns="a convolution to the teacher's width and two that restore its features",
        inputs=("student_maps", "teacher_maps", "indices"),
        default_weight=1.2e-3,
        points="last-map",
    )

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        mask_ratio: float = 0.15,
        masked: Masked = "channels",
        align: bool | None = None,
    ) -> None:
        super().__init__()
        check_choice(Masked, masked=masked)
        if not 0 <= mask_ratio < 1:
            raise PursuhintError(f"mask_ratio must be at least 0 and below 1, got {mask_ratio}")
        self.mask_ratio = mask_ratio
        self.masked = masked
        self.epoch = 0
        self.seed = torch.initial_seed() % _SEEDS
        self.hints = nn.ModuleList(
            Generator(own, other, align=own != other if align is None else align)
            for own, other in zip(student_channels, teacher_channels, strict=True)
        )

    @classmethod
    def check_mixed_images(cls) -> None:
        """Accept mixed images: the index decides on a mask, and nothing is remembered of a sample."""

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Draw other masks."""
        self.epoch = epoch

    def terms(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor], indices: Tensor
    ) -> dict[str, Tensor]:
        """Compare the features of all hint points.

        Args:
            students: (N, C_s, H_s, W_s), or tokens (N, T, C_s), one tensor a hint point.
            teachers: (N, C_t, H_t, W_t), or tokens (N, T, C_t), one tensor a hint point.
            indices: numbers of the samples, (N,), of which the masks are a hash.

        Returns:
            The loss of each pair: ``hint_0``, ``hint_1``, ... Each is at least 0; zero when the teacher's
            features are restored.

        Raises:
            PursuhintError: the batch sizes differ, or the features cannot be compared.
        """
        values = {}
        for number, (hint, own, other) in enumerate(zip(self.hints, students, teachers, strict=True)):
            assert isinstance(hint, Generator)
            student, teacher = pool_to_smaller(*as_maps(own, other))
            aligned = hint.align(student)
            restored = hint(aligned * self.mask(aligned, indices, number))
            values[f"hint_{number}"] = (restored - teacher).square().sum() / len(teacher)
        return values

    def mask(self, features: Tensor, indices: Tensor, pair: int) -> Tensor:
        """Ones, and zeros where features of a pair are left out, of a shape that multiplies them.

        Args:
            features: (N, C, H, W).
            indices: numbers of the samples, (N,).
            pair: number of the pair.
        """
        count, channels, height, width = features.shape
        entries = channels if self.masked == "channels" else height * width
        seed = (self.seed + self.epoch * len(self.hints) + pair) % _SEEDS
        kept = hashed_uniform(indices, entries, seed) >= self.mask_ratio
        shape = (count, channels, 1, 1) if self.masked == "channels" else (count, 1, height, width)
        return kept.view(shape).to(features.dtype)


class Generator(nn.Module):
    """What MGD learns for one pair: the alignment of widths, and the restoration.

    Args:
        student_channels: channels that come in.
        teacher_channels: channels that go out.
        align: whether there is a 1x1 convolution.

    Raises:
        PursuhintError: widths differ and ``align`` is false.
    """

    def __init__(self, student_channels: int, teacher_channels: int, *, align: bool) -> None:
        super().__init__()
        if not align and student_channels != teacher_channels:
            raise PursuhintError(
                f"MGD without align needs equal widths, got {student_channels} and {teacher_channels}"
            )
        self.align = nn.Conv2d(student_channels, teacher_channels, 1) if align else nn.Identity()
        self.conv1 = nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1)
        self.conv2 = nn.Conv2d(teacher_channels, teacher_channels, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """Restore (N, C_t, H, W) from aligned and masked features of that shape."""
        restored: Tensor = self.conv2(torch.relu(self.conv1(features)))
        return restored
