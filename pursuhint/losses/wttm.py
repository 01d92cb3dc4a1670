"""Weighted transformed teacher matching (Zheng and Yang, 2024)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from pursuhint.losses.ttm import TransformedTeacherLoss

__all__ = ["WeightedTransformedTeacherLoss"]


class WeightedTransformedTeacherLoss(TransformedTeacherLoss):
    r"""Transformed teacher matching that looks most at the samples of which the teacher is least sure.

    With the probabilities :math:`p` of the teacher, the softened ones :math:`\tilde p \propto p^\gamma`, and
    those :math:`q` of the student at temperature 1,

    .. math:: L = \frac1b \sum_i \Big( \sum_k p_{ik}^\gamma \Big) \, \mathrm{KL}(\tilde p_i \,\|\, q_i) .

    The weight, the power sum of the teacher's probabilities, is between 1 for a teacher that is certain and
    :math:`C^{1 - \gamma}` for equal probabilities of :math:`C` classes (for :math:`\gamma < 1`). Teacher and
    student need the same classes.

    Reference: K. Zheng and E.-H. Yang, Knowledge Distillation Based on Transformed Teacher Matching, ICLR
    2024, https://arxiv.org/abs/2402.11148. Power 0.2 and weight 4 are those of the authors' CIFAR-100
    experiments beside CRD.

    Args:
        gamma: the power, above 0; below 1 it softens the teacher's probabilities.

    Raises:
        PursuhintError: ``gamma`` is not positive.

    Example:
        >>> WeightedTransformedTeacherLoss()(torch.zeros(8, 10), torch.zeros(8, 10))
        tensor(0.)
    """

    info = TransformedTeacherLoss.info.replace(title="WTTM", default_weight=4.0)

    def __init__(self, *, gamma: float = 0.2) -> None:
        super().__init__(gamma=gamma)

    def weighted(self, divergences: Tensor, teacher: Tensor) -> Tensor:
        """The divergence of each sample times the power sum of the teacher's probabilities, (N,)."""
        return (self.gamma * F.log_softmax(teacher, dim=1)).exp().sum(1) * divergences
