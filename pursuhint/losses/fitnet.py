"""Hints for thin deep nets (Romero et al., 2015)."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from pursuhint.connectors import ConvRegressor
from pursuhint.losses.base import FeatureShape, HintLoss
from pursuhint.losses.maps import Size, as_maps, map_sizes, pool_to_smaller

__all__ = ["FitNetLoss"]


class FitNetLoss(HintLoss):
    r"""Ask the student for the teacher's features, through a learned regressor.

    .. math:: L = \frac{1}{b c h w} \lVert R(f_S) - f_T \rVert_2^2 ,

    summed over the pairs of hint points. :math:`R` is a convolution, batch norm and, if the teacher's
    features cannot be negative, a ReLU (`pursuhint.connectors.ConvRegressor`); it is trained along with the
    student and not needed afterwards. Widths and sizes may differ; where no convolution of the reference
    implementation fits, both maps are averaged down to the smaller height and width.

    One stage, beside the classification term, with the weight 100: the form of the CIFAR-100 benchmark of
    Tian et al. (ICLR 2020). The paper trains the lower half with the hint alone before distilling, has no
    batch norm in the regressor, and takes half the sum of the squares.

    Reference: A. Romero, N. Ballas, S. E. Kahou, A. Chassang, C. Gatta and Y. Bengio, FitNets: Hints for Thin
    Deep Nets, ICLR 2015, https://arxiv.org/abs/1412.6550.

    Args:
        student_channels: width of the student's features.
        teacher_channels: width of the teacher's features.
        student_size: height and width of the student's maps.
        teacher_size: height and width of the teacher's maps.
        relu: end the regressor in a ReLU. Built from hint points it is on for post-activation features of
            the teacher and off for pre-activation ones. Turn it off for the outputs of residual blocks that
            end in the sum (wide ResNets), which may be negative too.

    Example:
        >>> loss = FitNetLoss(16, 64, (4, 4), (2, 2))
        >>> loss(torch.randn(8, 16, 4, 4), torch.randn(8, 64, 2, 2)).shape
        torch.Size([])
    """

    title = "FitNet"
    paper = "Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015"
    default_weight = 100.0

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        student_size: Size,
        teacher_size: Size,
        *,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.regressor = ConvRegressor(
            student_channels, teacher_channels, student_size, teacher_size, relu=relu
        )

    @classmethod
    def pair_arguments(cls, student: FeatureShape, teacher: FeatureShape) -> dict[str, Any]:
        """Sizes of the regressor, and whether it ends in a ReLU."""
        student_size, teacher_size = map_sizes(student, teacher)
        return {
            "student_channels": student.channels,
            "teacher_channels": teacher.channels,
            "student_size": student_size,
            "teacher_size": teacher_size,
            "relu": teacher.activation == "post",
        }

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the features of one hint point.

        Args:
            student: (N, C_s, H_s, W_s), or tokens (N, T, C_s).
            teacher: (N, C_t, H_t, W_t), or tokens (N, T, C_t).

        Returns:
            Scalar, at least 0; zero when the regressor gives the teacher's features.

        Raises:
            PursuhintError: the batch sizes differ, or a batch is too small for batch norm.
        """
        student, teacher = as_maps(student, teacher)
        return F.mse_loss(*pool_to_smaller(self.regressor(student), teacher))
