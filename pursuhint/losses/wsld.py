"""Weighted soft labels (Zhou et al., 2021)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pursuhint.losses.base import LogitLoss
from pursuhint.losses.checks import check_non_negative, check_positive, check_same_classes

__all__ = ["WeightedSoftLabelLoss"]


class WeightedSoftLabelLoss(LogitLoss):
    r"""Follow the teacher where the student is worse than it at the label, and the label alone elsewhere.

    With the cross-entropies :math:`\ell_S, \ell_T` of student and teacher with the label of each sample,

    .. math:: L = \mathrm{CE}(z_S, y) + \alpha \, \frac{T^2}{b} \sum_i w_i \Big( - \sum_k p_{ik} \log q_{ik}
              \Big), \quad w_i = 1 - e^{- \ell_{S,i} / (\ell_{T,i} + \epsilon)} ,

    :math:`p` and :math:`q` the probabilities of teacher and student, softened by :math:`T`. No gradient runs
    through the weights. Samples that the student gets better than the teacher count little: following the
    teacher there would only move it away from the label (the bias of soft labels, of which the samples that
    regularise have most).

    The classification term is part of the method. The soft term is a cross-entropy, not a divergence: it does
    not reach zero. Paper and authors' code agree.

    Reference: H. Zhou, L. Song, J. Chen, Y. Zhou, G. Wang, J. Yuan and Q. Zhang, Rethinking Soft Labels for
    Knowledge Distillation: A Bias-Variance Tradeoff Perspective, ICLR 2021, https://arxiv.org/abs/2102.00650.

    Args:
        temperature: divides the logits of the soft term, above 0.
        alpha: weight of the soft term, at least 0.
        eps: added to the teacher's cross-entropy, above 0.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = WeightedSoftLabelLoss()
        >>> loss(torch.randn(8, 10), torch.randn(8, 10), torch.arange(8)).shape
        torch.Size([])
    """

    info = LogitLoss.info.replace(
        title="WSLD",
        paper="Zhou et al., Rethinking Soft Labels for Knowledge Distillation, ICLR 2021",
        minimum=None,
        contains_classification=True,
        softens_logits=True,
    )

    def __init__(self, *, temperature: float = 2.0, alpha: float = 2.5, eps: float = 1e-7) -> None:
        super().__init__()
        check_positive(temperature=temperature, eps=eps)
        check_non_negative(alpha=alpha)
        self.temperature = temperature
        self.alpha = alpha
        self.eps = eps

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Compare the logits of one batch with each other and with the labels.

        Args:
            student: (N, classes).
            teacher: (N, classes).
            labels: class numbers, (N,).

        Returns:
            The two addends, weighted: ``cross_entropy`` and ``soft``. Their sum is above 0.

        Raises:
            PursuhintError: the numbers of samples or classes differ.
        """
        check_same_classes(self.info.title, student, teacher)
        targets = torch.softmax(teacher / self.temperature, dim=1)
        logarithms = torch.log_softmax(student / self.temperature, dim=1)
        soft = -(targets * logarithms).sum(1)
        weighted = (self.weights(student, teacher, labels) * soft).mean()
        return {
            "cross_entropy": F.cross_entropy(student, labels),
            "soft": self.alpha * self.temperature**2 * weighted,
        }

    @torch.no_grad()
    def weights(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """How much each sample follows the teacher, (N,), in [0, 1]; takes what `forward` takes."""
        own, other = (F.cross_entropy(logits, labels, reduction="none") for logits in (student, teacher))
        # w = 1 - exp(-CE_S / (CE_T + eps))
        return -torch.expm1(-own / (other + self.eps))
