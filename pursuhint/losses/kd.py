"""Knowledge distillation with soft targets (Hinton, Vinyals and Dean, 2015)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pursuhint.losses._parts.logits import standardized
from pursuhint.losses.base import LogitLoss
from pursuhint.losses.checks import check_choice, check_positive, check_same_classes

__all__ = ["SoftTargetLoss"]

Measure = Literal["divergence", "cross-entropy"]


def soft_target_divergence(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    r"""Divergence of the student's softened probabilities from the teacher's.

    .. math:: \frac{T^2}{b} \sum_i \mathrm{KL}(p_i \,\|\, q_i),
              \quad p = \mathrm{softmax}(z_T / T),\; q = \mathrm{softmax}(z_S / T)

    Both are kept as logarithms, so that saturated logits give finite values and gradients.

    Args:
        student: logits, (N, classes).
        teacher: logits, (N, classes).
        temperature: divides both, above 0.

    Returns:
        Scalar, at least 0; summed over classes and averaged over the batch.
    """
    log_student = F.log_softmax(student / temperature, dim=1)
    log_teacher = F.log_softmax(teacher / temperature, dim=1)
    return temperature**2 * F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


class SoftTargetLoss(LogitLoss):
    r"""Ask the student for the teacher's probabilities, softened by a temperature.

    .. math:: L = \frac{T^2}{b} \sum_i \sum_k p_{ik} (\log p_{ik} - \log q_{ik}),
              \quad p = \mathrm{softmax}(z_T / T),\; q = \mathrm{softmax}(z_S / T)

    The factor :math:`T^2` keeps gradients in scale. The paper writes the cross-entropy with soft targets
    (``measure="cross-entropy"``), which is larger by the teacher's entropy and has the same gradient; the
    divergence, which reaches zero, is what implementations compute, and the default. Teacher and student need
    the same classes.

    Reference: G. Hinton, O. Vinyals and J. Dean, Distilling the Knowledge in a Neural Network, NIPS 2014
    deep learning workshop, https://arxiv.org/abs/1503.02531. The default weights are those of the CIFAR-100
    benchmark of Tian et al. (ICLR 2020): 0.9, and 0.1 of the cross-entropy, for KD alone; 1 and 1 beside
    another loss.

    With ``standardize`` the logits of both networks are first brought to mean 0 and standard deviation 1 over
    the classes of each sample, so that the student need not match their scale (Sun et al., Logit
    Standardization in Knowledge Distillation, CVPR 2024; theirs are temperature 2, weight 9 and 0.1 of the
    cross-entropy, which sees the logits as they are).

    Args:
        temperature: divides the logits, above 0; above 1 it softens the probabilities.
        measure: ``"divergence"`` or ``"cross-entropy"``.
        standardize: compare standardized logits.

    Raises:
        PursuhintError: ``temperature`` is not positive, or ``measure`` neither of these.

    Example:
        >>> SoftTargetLoss(temperature=4.0)(torch.zeros(8, 10), torch.zeros(8, 10), torch.arange(8))
        tensor(0.)
    """

    info = LogitLoss.info.replace(
        title="KD",
        paper="Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, NIPS workshop 2014",
        default_weight=0.9,
        default_ce_weight=0.1,
        weight_beside=1.0,
        ce_weight_beside=1.0,
        softens_logits=True,
    )

    def __init__(
        self, *, temperature: float = 4.0, measure: Measure = "divergence", standardize: bool = False
    ) -> None:
        super().__init__()
        check_positive(temperature=temperature)
        check_choice(Measure, measure=measure)
        self.temperature = temperature
        self.measure = measure
        self.standardize = standardize

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor | None = None) -> Tensor:
        """Compare the logits of one batch.

        Args:
            student: (N, classes).
            teacher: (N, classes).
            labels: not used.

        Returns:
            Scalar, at least 0; zero when the probabilities agree. With ``measure="cross-entropy"`` at least
            the teacher's entropy, and equal to it then.

        Raises:
            PursuhintError: the numbers of samples or classes differ.
        """
        check_same_classes(self.info.title, student, teacher)
        if self.standardize:
            student, teacher = standardized(student), standardized(teacher)
        if self.measure == "cross-entropy":
            targets = torch.softmax(teacher / self.temperature, dim=1)
            return self.temperature**2 * F.cross_entropy(student / self.temperature, targets)
        return soft_target_divergence(student, teacher, self.temperature)
