"""Normalized knowledge distillation (Yang et al., 2023)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from pursuhint.losses._parts.logits import without_label
from pursuhint.losses.base import LogitLoss
from pursuhint.losses.checks import check_non_negative, check_positive, check_same_classes

__all__ = ["NormalizedKnowledgeLoss"]


class NormalizedKnowledgeLoss(LogitLoss):
    r"""Soft targets in two parts, with the probabilities of the other classes normalized to sum to one.

    With the probabilities :math:`p` of the teacher and :math:`q` of the student, and :math:`\hat p, \hat q`
    those of a softmax over all classes but the label :math:`y`, softened by :math:`T`,

    .. math:: L = \frac1b \sum_i \Big( - p_{iy} \log q_{iy} - \gamma T^2
              \sum_{k \ne y} \hat p_{ik} \log \hat q_{ik} \Big) .

    The first part is a cross-entropy with the teacher's probability of the label as its weight, at
    temperature 1. Without normalization the second would compare two distributions whose sums differ, which
    the student cannot make equal. Both are cross-entropies, so that the value of an equal student is not
    zero. Teacher and student need the same classes.

    Reference: Z. Yang, A. Zeng, Z. Li, T. Zhang, C. Yuan and Y. Li, From Knowledge Distillation to
    Self-Knowledge Distillation: A Unified Approach with Normalized Loss and Customized Soft Labels, ICCV
    2023, https://arxiv.org/abs/2303.13005. The defaults are those of CNNs on ImageNet; the authors' code has
    gamma 3.5 and temperature 3 for CIFAR-100, and gamma 1 for DeiT.

    Args:
        gamma: weight of the part of the other classes, at least 0.
        temperature: divides the logits of that part, above 0.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = NormalizedKnowledgeLoss()
        >>> loss(torch.randn(8, 10), torch.randn(8, 10), torch.arange(8)).shape
        torch.Size([])
    """

    info = LogitLoss.info.replace(
        title="NKD",
        paper="Yang et al., From Knowledge Distillation to Self-Knowledge Distillation, ICCV 2023",
        minimum=None,
        softens_logits=True,
    )

    def __init__(self, *, gamma: float = 1.5, temperature: float = 1.0) -> None:
        super().__init__()
        check_non_negative(gamma=gamma)
        check_positive(temperature=temperature)
        self.gamma = gamma
        self.temperature = temperature

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Compare the logits of one batch.

        Args:
            student: (N, classes).
            teacher: (N, classes).
            labels: class numbers, (N,).

        Returns:
            The two addends, weighted: ``target`` and ``non_target``. Each is at least 0.

        Raises:
            PursuhintError: the numbers of samples or classes differ.
        """
        check_same_classes(self.info.title, student, teacher)
        targets = labels[:, None]
        certainty = teacher.softmax(1).gather(1, targets)
        target = -(certainty * student.log_softmax(1).gather(1, targets)).mean()
        own, other = (without_label(logits, labels) / self.temperature for logits in (student, teacher))
        others = -(other.softmax(1) * F.log_softmax(own, dim=1)).sum(1).mean()
        return {"target": target, "non_target": self.gamma * self.temperature**2 * others}
