"""Hints for thin deep nets (Romero et al., 2015)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor
from torch.nn import functional as F

from pursuhint.losses._parts.connectors import ConvRegressor
from pursuhint.losses._parts.maps import Size, as_maps, pool_to_smaller
from pursuhint.losses.base import HintLoss, WarmUp
from pursuhint.losses.checks import check_choice, check_positive
from pursuhint.losses.context import FeatureShape

__all__ = ["FitNetLoss"]

Connector = Literal["convolution", "orthogonal"]


class FitNetLoss(HintLoss):
    r"""Ask the student for the teacher's features, through a learned regressor.

    .. math:: L = \frac{1}{b c h w} \lVert R(f_S) - f_T \rVert_2^2 ,

    summed over the pairs of hint points. :math:`R` is a convolution, batch norm and, if the teacher's
    features cannot be negative, a ReLU (`ConvRegressor`); it is trained along with the
    student and not needed afterwards. Widths and sizes may differ; where no convolution of the reference
    implementation fits, both maps are averaged down to the smaller height and width.

    One stage, beside the classification term, with the weight 100: the form of the CIFAR-100 benchmark of
    Tian et al. (ICLR 2020), and the default because published comparisons use it. The paper has two: with
    ``two_stages`` the hint trains the student up to the hint point, alone and not weighted, for
    ``warm_up_epochs`` at the base learning rate, and is left out of the main stage, which is usually given
    the term ``kd``. The paper's regressor has no batch norm and ends in maxout, of two pieces for its
    networks (``norm=False, relu=False, maxout_pieces=2``), and its loss is half the sum of the squares of a
    sample (``reduction="half-sum"``). With ``connector="orthogonal"`` the convolution is a semi-orthogonal
    matrix, which keeps distances and learns little by itself (Miles, Elezi and Deng, VkD, CVPR 2024); theirs
    has neither norm nor ReLU behind it (``norm=False, relu=False``).

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
        norm: batch norm in the regressor.
        connector: ``"convolution"``, or ``"orthogonal"``: the student's map, averaged down to the smaller
            size of both, times a semi-orthogonal matrix.
        maxout_pieces: how many values the convolution gives for each of the teacher's channels, of which the
            largest counts; 1 for a plain convolution.
        reduction: ``"mean"`` of the squares over all elements, or ``"half-sum"``: half their sum over
            channels and positions, averaged over the batch.
        two_stages: prepare the student with the hint first, then leave the hint out.
        warm_up_epochs: how long the student is prepared, with ``two_stages``. The paper stops when the
            error has not improved for long, after 500 at the latest; 30 is what the benchmark gives other
            methods.

    Raises:
        PursuhintError: ``warm_up_epochs`` or ``maxout_pieces`` is not positive.

    Example:
        >>> loss = FitNetLoss(16, 64, (4, 4), (2, 2))
        >>> loss(torch.randn(8, 16, 4, 4), torch.randn(8, 64, 2, 2)).shape
        torch.Size([])
    """

    info = HintLoss.info.replace(
        title="FitNet",
        paper="Romero et al., FitNets: Hints for Thin Deep Nets, ICLR 2015",
        learns="a regressor for every pair of points",
        default_weight=100.0,
        points="second-stage",
        only_with=(("warm_up_epochs", "two_stages", True),),
    )

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        student_size: Size,
        teacher_size: Size,
        *,
        relu: bool = True,
        norm: bool = True,
        connector: Connector = "convolution",
        maxout_pieces: int = 1,
        reduction: Literal["mean", "half-sum"] = "mean",
        two_stages: bool = False,
        warm_up_epochs: int = 30,
    ) -> None:
        super().__init__()
        check_choice(Connector, connector=connector)
        check_positive(warm_up_epochs=warm_up_epochs, maxout_pieces=maxout_pieces)
        self.reduction = reduction
        self.info = self.info.replace(warm_up_only=two_stages)
        self.warm_up_epochs = warm_up_epochs
        self.regressor = ConvRegressor(
            student_channels,
            teacher_channels,
            student_size,
            teacher_size,
            relu=relu,
            norm=norm,
            pieces=maxout_pieces,
            orthogonal=connector == "orthogonal",
        )

    @classmethod
    def pair_arguments(cls, student: FeatureShape, teacher: FeatureShape) -> dict[str, Any]:
        """Sizes of the regressor, which ends in a ReLU where the teacher's point is behind one."""
        return {**super().pair_arguments(student, teacher), "relu": teacher.activation == "post"}

    @classmethod
    def only_warms_up(cls, hyperparameters: Mapping[str, Any]) -> bool:
        """With ``two_stages`` alone."""
        return bool(hyperparameters.get("two_stages", False))

    def stages(self) -> Sequence[WarmUp]:
        """The preparation of the student, with ``two_stages``."""
        return (WarmUp("hint", self.warm_up_epochs, trains_student=True),) if self.info.warm_up_only else ()

    def begin_stage(self, stage: str | None) -> None:
        """What is learned trains in the warm-up alone, if there is one."""
        self.requires_grad_(stage is not None or not self.info.warm_up_only)

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
        # r(f_S), brought to the size of the smaller map
        mapped, teacher = pool_to_smaller(self.regressor(student), teacher)
        if self.reduction == "half-sum":
            return 0.5 * (mapped - teacher).square().sum() / len(student)
        return F.mse_loss(mapped, teacher)
