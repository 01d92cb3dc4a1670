"""Decoupled knowledge distillation (Zhao et al., 2022)."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from pursuhint.losses._parts.logits import split_by_label, standardized
from pursuhint.losses._parts.ramp import LinearRamp
from pursuhint.losses.base import LogitLoss
from pursuhint.losses.checks import check_non_negative, check_positive, check_same_classes

__all__ = ["DecoupledLoss"]


class DecoupledLoss(LogitLoss):
    r"""Soft targets in two parts: how likely the label is, and how the other classes compare.

    With the probabilities :math:`p` of the teacher and :math:`q` of the student, softened by :math:`T`, and
    :math:`\hat p, \hat q` those of a softmax over all classes but the label,

    .. math:: L = \frac{T^2}{b} \sum_i \alpha \, \mathrm{KL} \big( (p_{iy}, 1 - p_{iy}) \,\|\,
              (q_{iy}, 1 - q_{iy}) \big) + \beta \, \mathrm{KL}(\hat p_i \,\|\, \hat q_i) .

    Soft targets as usual weigh the second part with :math:`1 - p_{iy}`, which says little exactly where the
    teacher is sure. All is computed in logarithms: saturated logits, for which the authors' code gives
    infinite values, give finite ones. Teacher and student need the same classes.

    The loss grows to its full weight over the first 20 epochs, as in the authors' code.

    Reference: B. Zhao, Q. Cui, R. Song, Y. Qiu and J. Liang, Decoupled Knowledge Distillation, CVPR 2022,
    https://arxiv.org/abs/2203.08679. For CIFAR-100 it takes beta 8 for resnet32x4 and most teachers of other
    families, 6 for VGG-13 and WRN-40-2 with students of their kind, and 2 for ResNet-56 and ResNet-110.

    Args:
        alpha: weight of the part of the label, at least 0.
        beta: weight of the part of the other classes, at least 0.
        temperature: divides the logits, above 0.
        ramp_epochs: epochs over which the loss grows to its full weight; 0 for none.
        ramp_start: number that the first epoch counts as.
        standardize: compare logits of mean 0 and standard deviation 1 over the classes of each sample, as
            Sun et al., Logit Standardization in Knowledge Distillation, CVPR 2024.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> DecoupledLoss()(torch.zeros(8, 10), torch.zeros(8, 10), torch.arange(8))
        tensor(0.)
    """

    info = LogitLoss.info.replace(
        title="DKD",
        paper="Zhao et al., Decoupled Knowledge Distillation, CVPR 2022",
        default_weight=1.0,
        softens_logits=True,
    )

    def __init__(
        self,
        *,
        alpha: float = 1.0,
        beta: float = 8.0,
        temperature: float = 4.0,
        ramp_epochs: int = 20,
        ramp_start: int = 1,
        standardize: bool = False,
    ) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        check_non_negative(alpha=alpha, beta=beta)
        self.alpha = alpha
        self.beta = beta
        self.temperature = temperature
        self.ramp = LinearRamp(ramp_epochs, ramp_start)
        self.standardize = standardize

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
            The two addends, weighted: ``target`` and ``non_target``. Their sum is at least 0; zero when
            the probabilities agree.

        Raises:
            PursuhintError: the numbers of samples or classes differ.
        """
        check_same_classes(self.info.title, student, teacher)
        if self.standardize:
            student, teacher = standardized(student), standardized(teacher)
        own, own_others = split_by_label(student / self.temperature, labels)
        other, other_others = split_by_label(teacher / self.temperature, labels)
        among_others = (F.log_softmax(logits, dim=1) for logits in (own_others, other_others))
        scale = self.ramp.factor * self.temperature**2
        return {
            "target": scale * self.alpha * _divergence(own, other),
            "non_target": scale * self.beta * _divergence(*among_others),
        }


def _divergence(student: Tensor, teacher: Tensor) -> Tensor:
    """Divergence of logarithms of probabilities, (N, classes); summed over classes, averaged over samples."""
    if not student.shape[1]:  # of one class there are no others to disagree about
        return student.sum()
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)
