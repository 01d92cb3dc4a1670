"""A gift from knowledge distillation: the flow of the solution procedure (Yim et al., 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

from torch import Tensor, nn

from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.connectors import match_width
from pursuhint.losses._parts.maps import as_maps, pool_to_smaller
from pursuhint.losses.base import HintsLoss, WarmUp
from pursuhint.losses.checks import check_positive

__all__ = ["SolutionFlowLoss"]


class SolutionFlowLoss(HintsLoss):
    r"""Ask the student to go from each hint point to the next as the teacher does.

    With :math:`f_i` the features of hint point :math:`i` of one network, consecutive ones averaged down to
    the smaller size of the two,

    .. math:: G_i[c, d] = \frac{1}{h w} \sum_{xy} f_i[c, x, y] \, f_{i+1}[d, x, y], \quad
              L = \sum_i \frac{1}{b \, c_i c_{i+1}} \lVert G_i^S - G_i^T \rVert_F^2 ,

    one term for each of the n - 1 steps between n hint points; there must be two or more. Sizes may differ.
    Where channels do, a learned 1x1 convolution without bias brings the student's to the teacher's; the
    reference code refuses that.

    The loss prepares the student, alone and not weighted, for ``warm_up_epochs``, and is left out of the main
    stage, as the paper has it. It is of fourth degree in the features: where the teacher's are about 10 or
    larger, gradient descent with a rate of 0.05 diverges within a few steps, in batches of any size, and
    ``warm_up_lr`` has to be lower.

    The mean over the entries of :math:`G` is taken by the CIFAR-100 benchmark of Tian et al. (ICLR 2020),
    which uses the outputs of the stem and of the stages and whose weight 50 has no effect. The paper takes
    their sum: ``reduction="sum"``.

    Reference: J. Yim, D. Joo, J. Bae and J. Kim, A Gift from Knowledge Distillation: Fast Optimization,
    Network Minimization and Transfer Learning, CVPR 2017,
    https://openaccess.thecvf.com/content_cvpr_2017/html/Yim_A_Gift_From_CVPR_2017_paper.html.

    Args:
        student_channels: width of the student's features at every hint point.
        teacher_channels: width of the teacher's features at every hint point.
        reduction: ``"mean"`` over the entries of a matrix, or their ``"sum"``; the mean over the samples
            either way.
        warm_up_epochs: how long the student is prepared, at least 1.
        warm_up_lr: learning rate of that, above 0, constant; None for the base rate of the main stage.

    Raises:
        PursuhintError: there are fewer than two hint points, or a number is not positive.

    Example:
        >>> loss = SolutionFlowLoss([16, 32], [16, 32])
        >>> students = [torch.randn(8, 16, 4, 4), torch.randn(8, 32, 2, 2)]
        >>> teachers = [torch.randn(8, 16, 8, 8), torch.randn(8, 32, 4, 4)]
        >>> loss(students, teachers).shape
        torch.Size([])
    """

    info = HintsLoss.info.replace(
        title="FSP",
        paper="Yim et al., A Gift from Knowledge Distillation, CVPR 2017",
        learns="a convolution of the student's map, where channels differ",
        default_weight=50.0,
        warm_up_only=True,
        points="stem-and-stages",
    )

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        reduction: Literal["mean", "sum"] = "mean",
        warm_up_epochs: int = 30,
        warm_up_lr: float | None = None,
    ) -> None:
        super().__init__()
        check_positive(warm_up_epochs=warm_up_epochs)
        if warm_up_lr is not None:
            check_positive(warm_up_lr=warm_up_lr)
        if len(student_channels) < 2:
            raise PursuhintError(
                f"FSP compares steps between hint points and needs two or more, got {len(student_channels)}"
            )
        self.reduction = reduction
        self.warm_up_epochs = warm_up_epochs
        self.warm_up_lr = warm_up_lr
        self.connectors = nn.ModuleList(
            match_width(own, other) for own, other in zip(student_channels, teacher_channels, strict=True)
        )

    def stages(self) -> Sequence[WarmUp]:
        """The preparation of the student."""
        return (WarmUp("initialisation", self.warm_up_epochs, trains_student=True, lr=self.warm_up_lr),)

    def begin_stage(self, stage: str | None) -> None:
        """What is learned trains in the warm-up alone."""
        self.requires_grad_(stage is not None)

    def terms(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compare the features of all hint points.

        Args:
            students: (N, C_s, H_s, W_s), or tokens (N, T, C_s), one tensor a hint point.
            teachers: (N, C_t, H_t, W_t), or tokens (N, T, C_t), one tensor a hint point.

        Returns:
            The loss of each step: ``hint_0``, ``hint_1``, ... Their sum is at least 0; zero when all
            matrices agree.

        Raises:
            PursuhintError: the batch sizes differ, or the features cannot be compared.
        """
        maps = [as_maps(student, teacher) for student, teacher in zip(students, teachers, strict=True)]
        own = [connector(student) for connector, (student, _) in zip(self.connectors, maps, strict=True)]
        # G_i^S - G_i^T of every step from one hint point to the next
        differences = [
            _flow(*student) - _flow(*teacher)
            for student, teacher in zip(pairwise(own), pairwise(teacher for _, teacher in maps))
        ]
        return {f"hint_{index}": self._reduced(difference) for index, difference in enumerate(differences)}

    def _reduced(self, difference: Tensor) -> Tensor:
        squared = difference.square()
        return squared.mean() if self.reduction == "mean" else squared.sum((1, 2)).mean()


def _flow(first: Tensor, second: Tensor) -> Tensor:
    """G: mean products of the channels of one map and the channels of the next, (N, C_first, C_second)."""
    first, second = (features.flatten(2) for features in pool_to_smaller(first, second))
    return first @ second.mT / first.shape[2]
