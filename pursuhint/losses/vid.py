"""Variational information distillation (Ahn et al., 2019)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.connectors import PointwiseNetwork
from pursuhint.losses._parts.maps import as_maps, pool_to_smaller
from pursuhint.losses.base import HintLoss
from pursuhint.losses.checks import check_positive

__all__ = ["VariationalInformationLoss"]


class VariationalInformationLoss(HintLoss):
    r"""Ask the student to know as much about the teacher's features as a Gaussian can say.

    With a mean :math:`\mu` predicted from the student's features and one variance :math:`\sigma_c^2` a
    channel, both learned, the negative log-likelihood of the teacher's features up to a constant,

    .. math:: L = \frac{1}{b c h w} \sum \tfrac{1}{2} \Big( \frac{(\mu(f_S) - f_T)^2}{\sigma_c^2}
              + \log \sigma_c^2 \Big), \quad \sigma_c^2 = \log(1 + e^{\lambda_c}) + \epsilon ,

    summed over the pairs of hint points; it may become negative. The mean network is three 1x1 convolutions
    (`PointwiseNetwork`). Channels may differ; where sizes do, the larger map is averaged
    down first. The softplus is computed without overflow, where reference implementations give infinity for
    :math:`\lambda_c > 88` in single precision.

    Reference: S. Ahn, S. X. Hu, A. Damianou, N. D. Lawrence and Z. Dai, Variational Information Distillation
    for Knowledge Transfer, CVPR 2019, https://arxiv.org/abs/1904.05835. The mean over all elements
    and the weight 1 are those of the CIFAR-100 benchmark of Tian et al. (ICLR 2020).

    Args:
        student_channels: width of the student's features.
        teacher_channels: width of the teacher's features.
        init_pred_var: variance of every channel at the start, above ``eps``.
        eps: smallest variance, above 0.

    Raises:
        PursuhintError: a variance is out of its range.

    Example:
        >>> loss = VariationalInformationLoss(16, 64)
        >>> loss(torch.randn(8, 16, 4, 4), torch.randn(8, 64, 2, 2)).shape
        torch.Size([])
    """

    info = HintLoss.info.replace(
        title="VID",
        paper="Ahn et al., Variational Information Distillation for Knowledge Transfer, CVPR 2019",
        learns="three convolutions and the variances, for every pair of points",
        default_weight=1.0,
        minimum=None,
    )

    def __init__(
        self, student_channels: int, teacher_channels: int, *, init_pred_var: float = 5.0, eps: float = 1e-5
    ) -> None:
        super().__init__()
        check_positive(eps=eps)
        if not eps < init_pred_var < math.inf:
            raise PursuhintError(f"init_pred_var must be above eps = {eps} and finite, got {init_pred_var}")
        self.eps = eps
        self.mean = PointwiseNetwork(student_channels, teacher_channels)
        variance = init_pred_var - eps
        start = variance + math.log(-math.expm1(-variance))  # log(exp(v) - 1), which overflows for large v
        self.log_scale = nn.Parameter(torch.full((teacher_channels,), start))

    def variance(self) -> Tensor:
        """Predicted variance of every channel of the teacher, (C_t,), above ``eps``."""
        return torch.logaddexp(self.log_scale, torch.zeros_like(self.log_scale)) + self.eps

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the features of one hint point.

        Args:
            student: (N, C_s, H_s, W_s), or tokens (N, T, C_s).
            teacher: (N, C_t, H_t, W_t), or tokens (N, T, C_t).

        Returns:
            Scalar, at least half the mean of the log variances; equal to it when the mean network gives the
            teacher's features.

        Raises:
            PursuhintError: the batch sizes differ, or the features cannot be compared.
        """
        student, teacher = pool_to_smaller(*as_maps(student, teacher))
        variance = self.variance()[:, None, None]
        # -log of a normal density with mean mu(f_S) and one variance a channel, without its constant
        squared = (self.mean(student) - teacher).square()
        return 0.5 * (squared / variance + variance.log()).mean()
