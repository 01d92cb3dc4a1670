"""Spherical knowledge distillation (Guo et al., 2020)."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from pursuhint._util.distributed import mean_over_processes
from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.vectors import in_range, lengths
from pursuhint.losses.base import LogitLoss
from pursuhint.losses.checks import check_choice, check_positive, check_same_classes
from pursuhint.losses.kd import soft_target_divergence

__all__ = ["SphericalLoss"]

SphericalNormalization = Literal["unit_norm_mean_teacher_norm", "std_rescale", "layer_norm"]
AlphaSchedule = Literal["constant", "imagenet"]


class SphericalLoss(LogitLoss):
    r"""Compare the directions of the logits, not their lengths.

    With normalised logits :math:`a` of the student and :math:`b` of the teacher,

    .. math:: L = \alpha \, \frac{T^2}{n} \sum_i \mathrm{KL}(\mathrm{softmax}(b_i / T) \,\|\,
              \mathrm{softmax}(a_i / T)) + (1 - \alpha) \, \mathrm{CE}(a, y) .

    The classification term is part of the method, and on the normalised logits, whose length is bounded: it
    cannot reach zero. Three normalisations go by the name of the method:

    - ``unit_norm_mean_teacher_norm``: both logits on a sphere whose radius is the mean length of the
      teacher's logits in the batch (a constant). The paper's wording, and what PURSUhInT summarises; the
      default.
    - ``std_rescale``: the student's logits times the ratio of the standard deviations (unbiased, per sample)
      of teacher and student, without centring; the teacher's as they are. What the authors' script runs.
    - ``layer_norm``: both centred and divided by their standard deviation (biased, per sample), times
      ``multiplier``. Kept as comments in that script and recommended in its description.

    Where these divide by zero (equal logits under ``std_rescale``, zero ones under
    ``unit_norm_mean_teacher_norm``) the division is left out for that sample, so that value and gradient stay
    finite.

    Reference: J. Guo, M. Chen, Y. Hu, C. Zhu, X. He and D. Cai, Spherical Knowledge Distillation,
    https://arxiv.org/abs/2010.07485 (2020). For ImageNet the weight of the divergence is 0.9, 0.5 from epoch
    60 and 0.1 from epoch 80 of 100 on; none is published for CIFAR-100, where it stays 0.9.

    Args:
        normalization: one of the three names above.
        temperature: divides the normalised logits in the divergence, above 0.
        alpha: weight of the divergence, in [0, 1]; the cross-entropy gets the rest.
        alpha_schedule: ``"constant"``, or ``"imagenet"``: alpha is multiplied by 5/9 after 3/5 of the epochs
            and by 1/9 after 4/5 of them.
        multiplier: length scale of ``layer_norm``, above 0: roughly the standard deviation of the teacher's
            logits.
        eps: added to the variance in ``layer_norm``, above 0.
        radius_momentum: share of the previous radius in the radius of a batch, in [0, 1); above 0 the radius
            is a running average that starts with the first batch. The paper does not say which it is.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = SphericalLoss(normalization="layer_norm")
        >>> loss(torch.randn(8, 10), torch.randn(8, 10), torch.arange(8)).shape
        torch.Size([])
    """

    info = LogitLoss.info.replace(
        title="SKD",
        paper="Guo et al., Spherical Knowledge Distillation, arXiv 2010.07485, 2020",
        minimum=None,
        contains_classification=True,
        softens_logits=True,
        only_with=(("multiplier", "normalization", "layer_norm"), ("eps", "normalization", "layer_norm")),
    )

    running_radius: Tensor

    def __init__(
        self,
        *,
        normalization: SphericalNormalization = "unit_norm_mean_teacher_norm",
        temperature: float = 4.0,
        alpha: float = 0.9,
        alpha_schedule: AlphaSchedule = "constant",
        multiplier: float = 2.0,
        eps: float = 1e-7,
        radius_momentum: float = 0.0,
    ) -> None:
        super().__init__()
        if normalization not in get_args(SphericalNormalization):
            names = ", ".join(get_args(SphericalNormalization))
            raise PursuhintError(f"normalization must be one of {names}; got {normalization!r}")
        check_choice(AlphaSchedule, alpha_schedule=alpha_schedule)
        check_positive(temperature=temperature, multiplier=multiplier, eps=eps)
        if not 0 <= alpha <= 1:
            raise PursuhintError(f"alpha must be in [0, 1], got {alpha}")
        if not 0 <= radius_momentum < 1:
            raise PursuhintError(f"radius_momentum must be at least 0 and below 1, got {radius_momentum}")
        self.radius_momentum = radius_momentum
        if radius_momentum:
            self.register_buffer("running_radius", torch.zeros(()))
        self.normalization = normalization
        self.temperature = temperature
        self.alpha = alpha
        self.alpha_schedule = alpha_schedule
        self.present_alpha = alpha
        self.multiplier = multiplier
        self.eps = eps
        coupled = normalization == "unit_norm_mean_teacher_norm"
        self.info = self.info.replace(batch_coupled=coupled)  # through the radius alone

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """The weight of the divergence in this epoch."""
        self.present_alpha = self.alpha
        if self.alpha_schedule == "imagenet" and 5 * epoch >= 3 * epochs:
            self.present_alpha *= (5 if 5 * epoch < 4 * epochs else 1) / 9

    def terms(self, student: Tensor, teacher: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """Compare the logits of one batch with each other and with the labels.

        Args:
            student: (N, classes).
            teacher: (N, classes).
            labels: class numbers, (N,).

        Returns:
            The two addends, weighted: ``kd`` and ``ce``. Their sum is above 0.

        Raises:
            PursuhintError: the numbers of samples or classes differ.
        """
        check_same_classes(self.info.title, student, teacher)
        student, teacher = self.normalize(student, teacher)
        return {
            "kd": self.present_alpha * soft_target_divergence(student, teacher, self.temperature),
            "ce": (1 - self.present_alpha) * F.cross_entropy(student, labels),
        }

    def normalize(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """The logits that are compared, :math:`a` and :math:`b`, (N, classes) each."""
        if self.normalization == "std_rescale":
            return _over(student, student.std(1, keepdim=True)) * teacher.std(1, keepdim=True), teacher
        if self.normalization == "layer_norm":
            size = student.shape[1:]
            return (
                self.multiplier * F.layer_norm(in_range(student, dim=1), size, eps=self.eps),
                self.multiplier * F.layer_norm(in_range(teacher, dim=1), size, eps=self.eps),
            )
        radius = self.radius(teacher)  # of the sphere on which both lie
        return (
            radius * _over(student, lengths(student, dim=1)),
            radius * _over(teacher, lengths(teacher, dim=1)),
        )

    def radius(self, teacher: Tensor) -> Tensor:
        """Mean length of the teacher's logits over the batch, on all ranks; scalar without gradient.

        With ``radius_momentum`` the running average, which a batch goes into in training mode.
        """
        length = mean_over_processes(lengths(teacher.detach(), dim=1)[:, 0])
        if not self.radius_momentum:
            return length
        before = self.running_radius
        average = torch.where(before > 0, torch.lerp(length, before, self.radius_momentum), length)
        if not self.training:
            return torch.where(before > 0, before, length)
        self.running_radius.copy_(average)
        return average


def _over(logits: Tensor, length: Tensor) -> Tensor:
    """Logits over their length, (N, 1); as they are where the length is zero up to rounding."""
    rounding = 16 * torch.finfo(logits.dtype).eps * logits.detach().abs().amax(1, keepdim=True)
    return logits / torch.where(length > rounding, length, torch.ones_like(length))
