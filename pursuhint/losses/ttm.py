"""Transformed teacher matching (Zheng and Yang, 2024)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from pursuhint.losses.base import LogitLoss
from pursuhint.losses.checks import check_positive, check_same_classes

__all__ = ["TransformedTeacherLoss"]


class TransformedTeacherLoss(LogitLoss):
    r"""Soften the teacher's probabilities and not the student's.

    With the probabilities :math:`p` of the teacher and :math:`q` of the student at temperature 1,

    .. math:: L = \frac1b \sum_i \mathrm{KL}(\tilde p_i \,\|\, q_i),
              \quad \tilde p_{ik} = \frac{p_{ik}^\gamma}{\sum_j p_{ij}^\gamma} .

    The power plays the part of :math:`1 / T`. Leaving the temperature out of the student's probabilities
    amounts to soft targets with a Rényi entropy as a regularizer, which keeps the student from certainty.
    There is no factor :math:`T^2`, since the gradient of the student's logits is not divided by
    :math:`T`. Teacher and student need the same classes.

    Reference: K. Zheng and E.-H. Yang, Knowledge Distillation Based on Transformed Teacher Matching, ICLR
    2024, https://arxiv.org/abs/2402.11148. Power 0.1 and weight 45 are those of the authors' VGG-13 and VGG-8
    on CIFAR-100; they choose both by pair of networks.

    Args:
        gamma: the power, above 0; below 1 it softens the teacher's probabilities.

    Raises:
        PursuhintError: ``gamma`` is not positive.

    Example:
        >>> TransformedTeacherLoss()(torch.zeros(8, 10), torch.zeros(8, 10))
        tensor(0.)
    """

    info = LogitLoss.info.replace(
        title="TTM",
        paper="Zheng and Yang, Knowledge Distillation Based on Transformed Teacher Matching, ICLR 2024",
        default_weight=45.0,
        minimum=None,
    )

    def __init__(self, *, gamma: float = 0.1) -> None:
        super().__init__()
        check_positive(gamma=gamma)
        self.gamma = gamma

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
        """Compare the logits of one batch.

        Args:
            student: (N, classes).
            teacher: (N, classes).
            labels: not used.

        Returns:
            Scalar, at least 0; zero when the student's probabilities are the softened ones of the teacher.

        Raises:
            PursuhintError: the numbers of samples or classes differ.
        """
        check_same_classes(self.info.title, student, teacher)
        # p ** gamma / sum is a softmax of gamma times the logits; as logarithms, saturated ones stay finite.
        transformed = F.log_softmax(self.gamma * teacher, dim=1)
        divergences = F.kl_div(F.log_softmax(student, dim=1), transformed, reduction="none", log_target=True)
        return self.weighted(divergences.sum(1), teacher).mean()

    def weighted(self, divergences: Tensor, teacher: Tensor) -> Tensor:
        """The divergence of each sample times its weight, (N,); all weights are 1.

        Args:
            divergences: (N,).
            teacher: its logits, (N, classes).
        """
        return divergences
