"""Channel-wise distillation (Shu et al., 2021)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from pursuhint.losses._parts.connectors import match_width
from pursuhint.losses._parts.maps import as_maps, pool_to_smaller
from pursuhint.losses.base import HintLoss
from pursuhint.losses.checks import check_positive

__all__ = ["ChannelWiseLoss"]


class ChannelWiseLoss(HintLoss):
    r"""Ask every channel of the student to look at the places at which the teacher's channel looks.

    Each channel becomes a distribution over the positions, :math:`\phi(F)_{nc} = \mathrm{softmax}(F_{nc} /
    \tau)`, whatever its scale, and

    .. math:: L = \frac{\tau^2}{b c} \sum_{n=1}^{b} \sum_{k=1}^{c}
              \mathrm{KL} \big( \phi(F_T)_{nk} \,\|\, \phi(F_S)_{nk} \big) ,

    summed over the pairs of hint points. Made for dense tasks, where it takes logits too; positions that are
    background in both networks count little. Where widths differ, a learned 1x1 convolution brings the
    student's channels to the teacher's; where sizes do, the larger map is averaged down first.

    Reference: C. Shu, Y. Liu, J. Gao, Z. Yan and C. Shen, Channel-wise Knowledge Distillation for Dense
    Prediction, ICCV 2021, https://arxiv.org/abs/2011.13256. The paper has no values for classification:
    temperature and weight are the neutral 1.

    Args:
        student_channels: width of the student's features.
        teacher_channels: width of the teacher's features.
        temperature: :math:`\tau`, divides the features, above 0; large values spread a channel's attention.

    Raises:
        PursuhintError: ``temperature`` is not positive.

    Example:
        >>> loss = ChannelWiseLoss(16, 64)
        >>> loss(torch.randn(8, 16, 4, 4), torch.randn(8, 64, 2, 2)).shape
        torch.Size([])
    """

    info = HintLoss.info.replace(
        title="CWD",
        paper="Shu et al., Channel-wise Knowledge Distillation for Dense Prediction, ICCV 2021",
        learns="a convolution of the student's map, where channels differ",
    )

    def __init__(self, student_channels: int, teacher_channels: int, *, temperature: float = 1.0) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        self.temperature = temperature
        self.connector = match_width(student_channels, teacher_channels)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the features of one hint point.

        Args:
            student: (N, C_s, H_s, W_s), or tokens (N, T, C_s).
            teacher: (N, C_t, H_t, W_t), or tokens (N, T, C_t).

        Returns:
            Scalar, at least 0; zero when all channels have the same distribution over the positions.

        Raises:
            PursuhintError: the batch sizes differ, or the features cannot be compared.
        """
        student, teacher = pool_to_smaller(*as_maps(student, teacher))
        own, other = (
            F.log_softmax(features.flatten(2) / self.temperature, dim=2)
            for features in (self.connector(student), teacher)
        )
        divergences = F.kl_div(own, other, reduction="none", log_target=True).sum(2)
        return self.temperature**2 * divergences.mean()
