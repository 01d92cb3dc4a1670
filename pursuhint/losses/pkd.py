"""Distillation by Pearson correlation of channels (Cao et al., 2022)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from pursuhint._util.distributed import gather
from pursuhint.losses._parts.connectors import match_width
from pursuhint.losses._parts.maps import as_maps
from pursuhint.losses._parts.vectors import range_scale
from pursuhint.losses.base import HintLoss
from pursuhint.losses.checks import check_positive

__all__ = ["PearsonLoss"]


class PearsonLoss(HintLoss):
    r"""Compare maps whose channels have mean 0 and variance 1: the pattern counts, not the scale.

    With each channel normalized over the samples and positions of the batch,
    :math:`\hat F = (F - \mu_c) / (\sigma_c + \epsilon)`,

    .. math:: L = \frac{1}{2 b c h w} \lVert \hat F_S - \hat F_T \rVert_2^2 \approx 1 - r ,

    :math:`r` Pearson's correlation of both networks' channels, averaged over the channels; summed over the
    pairs of hint points. Teachers whose features differ in scale need no other weight, which makes it a good
    first choice for unknown pairs of networks. Where widths differ, a learned 1x1 convolution brings the
    student's channels to the teacher's; where sizes do, the student's map is resized bilinearly.

    Reference: W. Cao, Y. Zhang, J. Gao, A. Cheng, K. Cheng and J. Cheng, PKD: General Distillation Framework
    for Object Detectors via Pearson Correlation Coefficient, NeurIPS 2022, https://arxiv.org/abs/2207.02039.
    The paper trains detectors and has no value for classification: the weight is the neutral 1.

    Args:
        student_channels: width of the student's features.
        teacher_channels: width of the teacher's features.
        eps: added to the standard deviations, above 0.

    Raises:
        PursuhintError: ``eps`` is not positive.

    Example:
        >>> loss = PearsonLoss(16, 64)
        >>> loss(torch.randn(8, 16, 4, 4), torch.randn(8, 64, 2, 2)).shape
        torch.Size([])
    """

    info = HintLoss.info.replace(
        title="PKD",
        paper="Cao et al., PKD: General Distillation Framework for Object Detectors, NeurIPS 2022",
        learns="a convolution of the student's map, where channels differ",
        batch_coupled=True,
    )

    def __init__(self, student_channels: int, teacher_channels: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        check_positive(eps=eps)
        self.eps = eps
        self.connector = match_width(student_channels, teacher_channels)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the features of one hint point.

        Args:
            student: (N, C_s, H_s, W_s), or tokens (N, T, C_s).
            teacher: (N, C_t, H_t, W_t), or tokens (N, T, C_t).

        Returns:
            Scalar in [0, 2]; zero when every channel is the teacher's up to a positive scale and a shift.

        Raises:
            PursuhintError: the batch sizes differ, or the features cannot be compared.
        """
        student, teacher = as_maps(student, teacher)
        student = self.connector(student)
        if student.shape[2:] != teacher.shape[2:]:
            student = F.interpolate(student, teacher.shape[2:], mode="bilinear")
        own, other = (self._normalized(gather(features)) for features in (student, teacher))
        return 0.5 * F.mse_loss(own, other)

    def _normalized(self, features: Tensor) -> Tensor:
        """Channels as rows of mean 0 and variance 1 over samples and positions, (C, N H W)."""
        rows = features.transpose(0, 1).flatten(1)
        scale = range_scale(rows, dim=1)  # so that squares of large features stay finite
        rows = rows * scale
        centered = rows - rows.mean(1, keepdim=True)
        # The norm has a gradient at zero, where the square root of the variance has none.
        deviation = torch.linalg.vector_norm(centered, dim=1, keepdim=True) / math.sqrt(rows.shape[1])
        return centered / (deviation + self.eps * scale)
