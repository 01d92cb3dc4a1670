"""Activation boundaries (Heo et al., 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from pursuhint.losses._parts.connectors import ConvRegressor
from pursuhint.losses._parts.maps import Size, as_maps, pool_to_smaller
from pursuhint.losses.base import HintLoss, WarmUp
from pursuhint.losses.checks import check_positive
from pursuhint.losses.context import LossContext

__all__ = ["ActivationBoundaryLoss"]

_SCALE = 3 / 1000
"""Of the authors' code; it makes up for the sum over all elements."""


class ActivationBoundaryLoss(HintLoss):
    r"""Ask the student's neurons to be active where the teacher's are, however strongly.

    With :math:`r` the student's features, mapped to the teacher's width and size,

    .. math:: L = \frac{3}{1000} \frac{2^{i - n + 1}}{b} \Big( \sum_{f_T > 0} \max(0, m - r)^2
              + \sum_{f_T \le 0} \max(0, r + m)^2 \Big) ,

    summed over the pairs :math:`i = 0, ..., n - 1` of hint points, of which each counts half as much as the
    next deeper one. The map is the identity where widths and sizes agree, and else a convolution with batch
    norm (`ConvRegressor` without ReLU), which is learned and not needed afterwards.
    It is meant for pre-activation features; behind an activation :math:`f_T \le 0` means 0.

    The loss prepares the student, alone and not weighted, for ``warm_up_epochs`` at the base learning rate,
    and is left out of the main stage, as paper and the code of the CIFAR-100 benchmark of Tian et al. (ICLR
    2020) have it; the weight has no effect.

    Reference: B. Heo, M. Lee, S. Yun and J. Y. Choi, Knowledge Transfer via Distillation of Activation
    Boundaries Formed by Hidden Neurons, AAAI 2019, https://arxiv.org/abs/1811.03233.

    Args:
        student_channels: width of the student's features.
        teacher_channels: width of the teacher's features.
        student_size: height and width of the student's maps.
        teacher_size: height and width of the teacher's maps.
        share: how much this pair of hint points counts; 1 for the deepest.
        margin: :math:`m`, how far beyond the boundary is far enough, above 0.
        warm_up_epochs: how long the student is prepared.

    Raises:
        PursuhintError: a number is not positive.

    Example:
        >>> loss = ActivationBoundaryLoss(16, 64, (4, 4), (2, 2))
        >>> loss(torch.randn(8, 16, 4, 4), torch.randn(8, 64, 2, 2)).shape
        torch.Size([])
    """

    info = HintLoss.info.replace(
        title="AB",
        paper="Heo et al., Knowledge Transfer via Distillation of Activation Boundaries, AAAI 2019",
        learns="a regressor for every pair of points where shapes differ",
        default_weight=1.0,
        warm_up_only=True,
        activation="pre",
    )

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        student_size: Size,
        teacher_size: Size,
        share: float = 1.0,
        *,
        margin: float = 1.0,
        warm_up_epochs: int = 30,
    ) -> None:
        super().__init__()
        check_positive(margin=margin, warm_up_epochs=warm_up_epochs)
        self.share = share
        self.margin = margin
        self.warm_up_epochs = warm_up_epochs
        self.connector: nn.Module = nn.Identity()
        if (student_channels, student_size) != (teacher_channels, teacher_size):
            self.connector = ConvRegressor(
                student_channels, teacher_channels, student_size, teacher_size, relu=False
            )

    @classmethod
    def all_pair_arguments(cls, context: LossContext) -> list[dict[str, Any]]:
        """Those of every pair, and that it counts half as much as the next deeper one."""
        arguments = super().all_pair_arguments(context)
        deepest = len(arguments) - 1
        return [{**own, "share": 0.5 ** (deepest - index)} for index, own in enumerate(arguments)]

    def stages(self) -> Sequence[WarmUp]:
        """The preparation of the student."""
        return (WarmUp("initialisation", self.warm_up_epochs, trains_student=True),)

    def begin_stage(self, stage: str | None) -> None:
        """What is learned trains in the warm-up alone."""
        self.requires_grad_(stage is not None)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the features of one hint point.

        Args:
            student: (N, C_s, H_s, W_s), or tokens (N, T, C_s).
            teacher: (N, C_t, H_t, W_t), or tokens (N, T, C_t).

        Returns:
            Scalar, at least 0; zero when all of the student's values are on the teacher's side of the
            boundary and ``margin`` away from it.

        Raises:
            PursuhintError: the batch sizes differ, or a batch is too small for batch norm.
        """
        student, teacher = as_maps(student, teacher)
        response, teacher = pool_to_smaller(self.connector(student), teacher)
        # How far the response is from the teacher's side of the boundary plus the margin m.
        shortfall = torch.where(teacher > 0, self.margin - response, response + self.margin).relu()
        return _SCALE * self.share * shortfall.square().sum() / len(student)
