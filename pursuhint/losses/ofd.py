"""A comprehensive overhaul of feature distillation (Heo et al., 2019)."""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pursuhint._util.distributed import gather
from pursuhint.errors import PursuhintError
from pursuhint.features.feature_norm import find_norm
from pursuhint.losses._parts.connectors import NormalizedConv
from pursuhint.losses._parts.maps import as_maps, pool_to
from pursuhint.losses.base import HintLoss
from pursuhint.losses.checks import check_positive
from pursuhint.losses.context import LossContext

__all__ = ["FeatureOverhaulLoss"]


class FeatureOverhaulLoss(HintLoss):
    r"""Ask the student for the teacher's features before the ReLU, of which the negative ones count less.

    With :math:`r` the student's features behind a convolution and a batch norm, both learned, and
    :math:`t` the teacher's, averaged to the student's size,

    .. math:: L = 2^{i - n + 1} \, \frac{1}{b} \sum (r - \max(t, m_c))^2 \;
              \big[ t > 0 \text{ or } r > \max(t, m_c) \big] ,

    summed over the pairs :math:`i = 0, ..., n - 1` of hint points, of which each counts half as much as the
    next deeper one. A negative target need only not be exceeded. The margin :math:`m_c < 0` of a channel is
    the mean of its negative responses. A normal distribution with the scale :math:`s = |w_c|` as deviation
    and the shift :math:`\mu` as mean, those of the teacher's batch norm in front of the hint point, gives it:

    .. math:: m_c = \mu - s \, \frac{\varphi(\mu / s)}{\Phi(-\mu / s)}
              \text{ if } \Phi(-\mu / s) > 0.001, \text{ else } -3 s .

    Where two batch norms are added up, that of the longer branch is taken, as in mdistiller; there the
    margins are rounded to single precision. ``margins="batch"`` measures the mean negative response on each
    batch instead, for teachers without batch norm. Behind a ReLU no target is below the margin, which then
    has no effect. Channels and sizes may differ. The weight 0.001 is mdistiller's for CIFAR-100; paper and
    code agree on the rest.

    Reference: B. Heo, J. Kim, S. Yun, H. Park, N. Kwak and J. Y. Choi, A Comprehensive Overhaul of Feature
    Distillation, ICCV 2019, https://arxiv.org/abs/1904.01866.

    Args:
        student_channels: width of the student's features.
        teacher_channels: width of the teacher's features.
        norm: the teacher's batch norm in front of the hint point; may be None for margins of the batch.
        share: how much this pair of hint points counts; 1 for the deepest.
        kernel_size: of the learned convolution; even sizes enlarge or shrink the map.
        margins: ``"norm"`` or ``"batch"``.

    Raises:
        PursuhintError: ``kernel_size`` is not positive, or the teacher has no batch norm in front of the hint
            point.

    Example:
        >>> loss = FeatureOverhaulLoss(16, 64, nn.BatchNorm2d(64))
        >>> loss(torch.randn(8, 16, 4, 4), torch.randn(8, 64, 2, 2)).shape
        torch.Size([])
    """

    info = HintLoss.info.replace(
        title="OFD",
        paper="Heo et al., A Comprehensive Overhaul of Feature Distillation, ICCV 2019",
        learns="a connector for every pair of points",
        default_weight=0.001,
        activation="pre",
    )

    teacher_scale: Tensor
    teacher_shift: Tensor

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        norm: nn.Module | None,
        share: float = 1.0,
        *,
        kernel_size: int = 1,
        margins: Literal["norm", "batch"] = "norm",
    ) -> None:
        super().__init__()
        check_positive(kernel_size=kernel_size)
        if norm is None and margins == "norm":
            raise PursuhintError(
                "OFD takes its margins from the teacher's batch norm in front of each hint point, but one "
                "point has none; choose other hint points or set margins to 'batch'"
            )
        self.share = share
        self.connector = NormalizedConv(student_channels, teacher_channels, kernel_size)
        self.from_norm = margins == "norm"
        self.info = self.info.replace(batch_coupled=not self.from_norm)
        if norm is not None and self.from_norm:
            scale, shift = _affine(norm)
            self.register_buffer("teacher_scale", scale)
            self.register_buffer("teacher_shift", shift)

    @classmethod
    def all_pair_arguments(cls, context: LossContext) -> list[dict[str, Any]]:
        """Those of every pair, and that it counts half as much as the next deeper one."""
        arguments = super().all_pair_arguments(context)
        deepest = len(arguments) - 1
        return [
            {**own, "share": 0.5 ** (deepest - index), "norm": cls.teacher_norm(context, index)}
            for index, own in enumerate(arguments)
        ]

    @classmethod
    def teacher_norm(cls, context: LossContext, index: int) -> nn.Module | None:
        """The teacher's batch norm in front of one hint point, or None."""
        shape = context.pairs[index][1]
        if context.teacher is None or context.example is None or shape.point is None:
            return None
        norm = find_norm(context.teacher, shape.point, context.example)
        return norm if norm is not None and len(_affine(norm)[0]) == shape.channels else None

    def margin(self, teacher: Tensor) -> Tensor:
        """Mean negative response of every channel, (C_t,): the norm's, or that of these features."""
        if self.from_norm:
            return _mean_negative(self.teacher_scale, self.teacher_shift)
        negative = teacher.detach().movedim(1, 0).flatten(1).clamp(max=0)
        sums = torch.stack([negative.sum(1), (negative < 0).sum(1).to(negative.dtype)])
        total, count = gather(sums[None]).sum(0)
        return total / count.clamp(min=1)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the features of one hint point.

        Args:
            student: (N, C_s, H_s, W_s), or tokens (N, T, C_s).
            teacher: (N, C_t, H_t, W_t), or tokens (N, T, C_t).

        Returns:
            Scalar, at least 0; zero when positive targets are met and negative ones not exceeded.

        Raises:
            PursuhintError: the batch sizes differ, or a batch is too small for batch norm.
        """
        student, teacher = as_maps(student, teacher)
        response = self.connector(student)
        margin = self.margin(teacher)[:, None, None]
        teacher = pool_to(teacher, response.shape[2:])
        target = torch.maximum(teacher, margin)
        # Partial L2: a negative target counts only where the student exceeds it.
        counts = (teacher > 0) | (response > target)
        return self.share * ((response - target).square() * counts).sum() / len(student)


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift of a batch norm, copied; 1 and 0 where it has none."""
    like = norm.get_buffer("running_mean")
    scale, shift = getattr(norm, "weight", None), getattr(norm, "bias", None)
    return (
        torch.ones_like(like) if scale is None else scale.detach().clone(),
        torch.zeros_like(like) if shift is None else shift.detach().clone(),
    )


def _mean_negative(scale: Tensor, shift: Tensor) -> Tensor:
    """Mean of the negative values of normal distributions, or a bound where they are rare."""
    deviation = scale.abs().clamp(min=torch.finfo(scale.dtype).tiny)
    ratio = shift / deviation
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    share = torch.special.ndtr(-ratio)
    return torch.where(share > 0.001, shift - deviation * density / share.clamp(min=0.001), -3 * deviation)
