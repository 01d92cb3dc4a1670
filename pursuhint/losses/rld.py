"""Refined logit distillation (Sun et al., 2024)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pursuhint.losses._parts.logits import split_by_label
from pursuhint.losses._parts.ramp import LinearRamp
from pursuhint.losses.base import LogitLoss
from pursuhint.losses.checks import check_non_negative, check_positive, check_same_classes

__all__ = ["RefinedLogitLoss"]


class RefinedLogitLoss(LogitLoss):
    r"""Take over how sure the teacher is and how it ranks the classes below the label, not its mistakes.

    The sum of two parts. *Sample confidence* compares the teacher's largest probability with the student's
    probability of the label, both at the temperature :math:`T_\alpha`:

    .. math:: \alpha \frac{T_\alpha^2}{b} \sum_i \mathrm{KL} \big( (\max_k p_{ik}, 1 - \max_k p_{ik}) \,\|\,
              (q_{iy}, 1 - q_{iy}) \big) .

    *Masked correlation* compares the classes that the teacher scores below the label, by softmaxes over these
    classes alone at the temperature :math:`T`:

    .. math:: \beta \frac{T^2}{b} \sum_i \mathrm{KL}(\hat p_i \,\|\, \hat q_i), \quad
              \hat p_i, \hat q_i \text{ over } \{ k : z^T_{ik} < z^T_{iy} \} .

    Classes that the teacher scores above the label are left out, so that its mistakes are not taught. A
    sample without any class below the label counts as 0. Teacher and student need the same classes. The loss
    grows to its full weight over the first 20 epochs.

    Reference: W. Sun, D. Chen, S. Lyu, G. Chen, C. Chen and C. Wang, Knowledge Distillation with Refined
    Logits, 2024, https://arxiv.org/abs/2408.07703.

    Args:
        alpha: weight of the sample confidence, at least 0.
        beta: weight of the masked correlation, at least 0.
        temperature: of the masked correlation, above 0.
        confidence_temperature: of the sample confidence, above 0.
        ramp_epochs: epochs over which the loss grows to its full weight; 0 for none.
        ramp_start: number that the first epoch counts as.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = RefinedLogitLoss()
        >>> loss(torch.randn(8, 10), torch.randn(8, 10), torch.arange(8)).shape
        torch.Size([])
    """

    info = LogitLoss.info.replace(
        title="RLD",
        paper="Sun et al., Knowledge Distillation with Refined Logits, arXiv 2408.07703, 2024",
        minimum=None,
        softens_logits=True,
    )

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        confidence_temperature: float = 1.0,
        ramp_epochs: int = 20,
        ramp_start: int = 1,
    ) -> None:
        super().__init__()
        check_non_negative(alpha=alpha, beta=beta)
        check_positive(temperature=temperature, confidence_temperature=confidence_temperature)
        self.alpha = alpha
        self.beta = beta
        self.temperature = temperature
        self.confidence_temperature = confidence_temperature
        self.ramp = LinearRamp(ramp_epochs, ramp_start)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Grow to the full weight over the first epochs."""
        self.ramp.begin_epoch(epoch)

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Compare the logits of one batch.

        Args:
            student: (N, classes).
            teacher: (N, classes).
            labels: class numbers, (N,).

        Returns:
            The two addends, weighted: ``confidence`` and ``correlation``. Each is at least 0; both are zero
            when the probabilities agree and the label is the teacher's first class.

        Raises:
            PursuhintError: the numbers of samples or classes differ.
        """
        check_same_classes(self.info.title, student, teacher)
        return {
            "confidence": self.ramp.factor * self.alpha * self._confidence(student, teacher, labels),
            "correlation": self.ramp.factor * self.beta * self._correlation(student, teacher, labels),
        }

    def _confidence(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        scale = self.confidence_temperature
        own, _ = split_by_label(student / scale, labels)
        other, _ = split_by_label(teacher / scale, teacher.argmax(1))
        return scale**2 * F.kl_div(own, other, reduction="batchmean", log_target=True)

    def _correlation(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        below = teacher < teacher.gather(1, labels[:, None])
        empty = ~below.any(1, keepdim=True)
        # A sample without such a class takes all of them, and counts as 0 in the end.
        left_out = ~(below | empty)
        # The smallest finite number: minus infinity has no gradient where it meets itself.
        lowest = torch.finfo(student.dtype).min
        own, other = (
            F.log_softmax((logits / self.temperature).masked_fill(left_out, lowest), dim=1)
            for logits in (student, teacher)
        )
        products = (other.exp() * (other - own)).masked_fill(left_out | empty, 0)
        return self.temperature**2 * products.sum(1).mean()
