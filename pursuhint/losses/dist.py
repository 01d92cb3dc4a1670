"""Distillation from a stronger teacher by correlations of predictions (Huang et al., 2022)."""

from __future__ import annotations

import torch
from torch import Tensor

from pursuhint._util.distributed import gather
from pursuhint.losses.base import LogitLoss
from pursuhint.losses.checks import check_non_negative, check_positive, check_same_classes

__all__ = ["PredictionCorrelationLoss"]


def correlation(first: Tensor, second: Tensor, *, eps: float = 1e-8) -> Tensor:
    """Pearson's correlation of rows.

    Args:
        first: (rows, values). Rows of equal values, up to rounding, have the correlation 0 and no gradient:
            that of the formula is 1 / eps there, in a direction that rounding decides.
        second: (rows, values).
        eps: added to the product of the two lengths.

    Returns:
        (rows,), in [-1, 1].
    """
    mean = first.mean(1, keepdim=True)
    first = first - mean
    second = second - second.mean(1, keepdim=True)
    length = torch.linalg.vector_norm(first, dim=1)
    correlations = (first * second).sum(1) / (length * torch.linalg.vector_norm(second, dim=1) + eps)
    rounding = 4 * torch.finfo(first.dtype).eps * first.shape[1] ** 0.5
    return correlations.where(length > rounding * mean.detach().abs()[:, 0], 0.0)


class PredictionCorrelationLoss(LogitLoss):
    r"""Ask for predictions that rank classes and samples as the teacher's do, whatever their scale.

    With :math:`p` and :math:`q` the softened probabilities of student and teacher and :math:`\rho` Pearson's
    correlation,

    .. math:: L = \tau^2 \Big( \beta \, \frac{1}{b} \sum_i \big(1 - \rho(p_{i \cdot}, q_{i \cdot})\big)
              + \gamma \, \frac{1}{n} \sum_c \big(1 - \rho(p_{\cdot c}, q_{\cdot c})\big) \Big) .

    The first term compares the classes of a sample, the second the samples of a class. For a batch of one
    the second is the constant :math:`\gamma \tau^2`. Scores for every pixel, (N, classes, H, W), count as one
    sample a pixel; the authors use a temperature of 1 there. Teacher and student need the same classes.
    Nothing is learned.

    Reference: T. Huang, S. You, F. Wang, C. Qian and C. Xu, Knowledge Distillation from A Stronger Teacher,
    NeurIPS 2022, https://arxiv.org/abs/2205.10536. Temperature 4 and weight 2 are those of its CIFAR-100
    experiments; on ImageNet the temperature is 1. The first version of the paper has none.

    Args:
        temperature: :math:`\tau`, divides the logits, above 0.
        beta: weight of the term between classes, at least 0.
        gamma: weight of the term between samples, at least 0.
        eps: added to the product of the lengths of two centred rows, above 0.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = PredictionCorrelationLoss()
        >>> loss(torch.randn(8, 10), torch.randn(8, 10)).shape
        torch.Size([])
    """

    info = LogitLoss.info.replace(
        title="DIST",
        paper="Huang et al., Knowledge Distillation from A Stronger Teacher, NeurIPS 2022",
        default_weight=2.0,
        batch_coupled=True,
        softens_logits=True,
    )

    def __init__(
        self, *, temperature: float = 4.0, beta: float = 1.0, gamma: float = 1.0, eps: float = 1e-8
    ) -> None:
        super().__init__()
        check_positive(temperature=temperature, eps=eps)
        check_non_negative(beta=beta, gamma=gamma)
        self.temperature = temperature
        self.beta = beta
        self.gamma = gamma
        self.eps = eps

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
        """Compare the logits of one batch.

        Args:
            student: (N, classes), or (N, classes, H, W).
            teacher: the same.
            labels: not used.

        Returns:
            The two addends, weighted: ``inter_class`` and ``intra_class``. Their sum is in [0, 2 (beta +
            gamma) temperature ** 2]; near zero when the probabilities agree.

        Raises:
            PursuhintError: the numbers of samples or classes differ.
        """
        between_classes, between_samples = self.disagreements(student, teacher)
        return {"inter_class": self.beta * between_classes, "intra_class": self.gamma * between_samples}

    def disagreements(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms before ``beta`` and ``gamma``; takes what `forward` takes."""
        check_same_classes(self.info.title, student, teacher)
        own, other = (
            gather((_as_rows(logits) / self.temperature).softmax(1)) for logits in (student, teacher)
        )
        scale = self.temperature**2
        # 1 - Pearson's correlation, along the rows (classes of a sample) and the columns (samples of a class)
        return (
            scale * (1 - correlation(own, other, eps=self.eps).mean()),
            scale * (1 - correlation(own.T, other.T, eps=self.eps).mean()),
        )


def _as_rows(logits: Tensor) -> Tensor:
    """(N, classes) as it is; one row a pixel of (N, classes, H, W)."""
    return logits if logits.ndim == 2 else logits.movedim(1, -1).flatten(0, -2)
