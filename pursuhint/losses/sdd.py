"""Scale decoupled distillation of the logits of regions (Wei, Luo and Luo, 2024)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.losses._parts.classifier_maps import ClassifierMaps
from pursuhint.losses._parts.logits import split_by_label
from pursuhint.losses.base import HintsLoss
from pursuhint.losses.checks import check_choice, check_non_negative, check_positive, check_same_batch
from pursuhint.losses.context import LossContext

__all__ = ["ScaleDecoupledLoss"]

Divergence = Literal["kd", "dkd"]


class ScaleDecoupledLoss(HintsLoss):
    r"""Ask for the teacher's probabilities in every region of the image, not in the whole alone.

    The classifier is applied to the mean of the last map over each region of a pyramid: the whole, its
    quarters, its sixteenths. With softened probabilities p of the teacher and q of the student,

    .. math:: L = \frac{T^2}{b n} \sum_i \sum_r v_{ir} \, \mathrm{KL}(p_{ir} \,\|\, q_{ir}) ,

    over n = 21 regions. :math:`v` is ``complementary_weight`` where the teacher is right about the image and
    wrong about the region or the other way round, and 1 where both are right or both wrong. With
    ``divergence="dkd"`` the two parts of DKD stand in place of the divergence, with weights ``alpha`` and
    ``beta``. Gradients reach the student's classifier, too. Sizes and widths may differ; the classes must be
    the same. Both networks should average their last map and classify the mean.

    Reference: S. Wei, C. Luo and Y. Luo, Scale Decoupled Distillation, CVPR 2024,
    https://arxiv.org/abs/2403.13512. The average over regions is that of the authors' code; the paper writes
    a sum. Their code averages the map to 4 x 4 first and larger regions from these, which is the same where 4
    divides height and width; here every region is averaged from the map, so that the whole gives the logits.

    Args:
        student_classifier: the student's.
        teacher_classifier: the teacher's; copied and frozen.
        scales: regions along height and along width, for every level of the pyramid.
        temperature: divides the logits, above 0.
        complementary_weight: see above, at least 0.
        divergence: ``"kd"`` or ``"dkd"``.
        alpha: weight of the label against the rest, with ``"dkd"``; at least 0.
        beta: weight of the other classes among each other, with ``"dkd"``; at least 0.

    Raises:
        PursuhintError: a value is out of its range, or the classifiers do not fit.

    Example:
        >>> loss = ScaleDecoupledLoss(nn.Linear(16, 10), nn.Linear(64, 10))
        >>> loss([torch.randn(8, 16, 4, 4)], [torch.randn(8, 64, 2, 2)], torch.arange(8)).shape
        torch.Size([])
    """

    info = HintsLoss.info.replace(
        title="SDD",
        paper="Wei, Luo and Luo, Scale Decoupled Distillation, CVPR 2024",
        default_weight=0.9,
        default_ce_weight=0.1,
        weight_beside=1.0,
        ce_weight_beside=1.0,
        compares="last map",
        at_last_map=True,
        inputs=("student_maps", "teacher_maps", "labels"),
        needs_teacher_classifier=True,
        classifier_parameters=("weight", "bias"),
        softens_logits=True,
        only_with=(("alpha", "divergence", "dkd"), ("beta", "divergence", "dkd")),
    )

    def __init__(
        self,
        student_classifier: nn.Module | ClassifierMaps,
        teacher_classifier: nn.Module | None = None,
        *,
        scales: tuple[int, ...] = (1, 2, 4),
        temperature: float = 4.0,
        complementary_weight: float = 2.0,
        divergence: Divergence = "kd",
        alpha: float = 1.0,
        beta: float = 8.0,
    ) -> None:
        super().__init__()
        check_positive(temperature=temperature, scales=min(scales, default=0))
        check_non_negative(complementary_weight=complementary_weight, alpha=alpha, beta=beta)
        check_choice(Divergence, divergence=divergence)
        self.scales = scales
        self.temperature = temperature
        self.complementary_weight = complementary_weight
        self.divergence = divergence
        self.alpha = alpha
        self.beta = beta
        if not isinstance(student_classifier, ClassifierMaps):
            assert teacher_classifier is not None
            student_classifier = ClassifierMaps(student_classifier, teacher_classifier)
        self.class_maps = student_classifier

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """The classifiers of both networks."""
        return {"student_classifier": ClassifierMaps.of(context)}

    def prepare(self, student: nn.Module) -> nn.Module:
        """Look up the student's classifier; nothing is changed."""
        self.class_maps.prepare(student)
        return student

    def forward(self, students: Sequence[Tensor], teachers: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Compare the logits of all regions of one batch.

        Args:
            students: the student's last map, (N, C_s, H_s, W_s), or its embedding, (N, C_s).
            teachers: the teacher's, (N, C_t, H_t, W_t) or (N, C_t).
            labels: class numbers, (N,).

        Returns:
            Scalar, at least 0; zero when the probabilities agree in every region.

        Raises:
            PursuhintError: the batch sizes differ, or a map has another width than its classifier takes.
        """
        (student,), (teacher,) = students, teachers
        check_same_batch(student, teacher)
        maps, teacher_maps = self.class_maps(student, teacher)
        own, other = self._regions(maps), self._regions(teacher_maps)
        of_regions, of_image = other.argmax(2), teacher_maps.mean((2, 3)).argmax(1)
        differs = (of_regions == labels[:, None]) != (of_image == labels)[:, None]
        weights = torch.where(differs, self.complementary_weight, 1.0).to(own.dtype)
        return self.temperature**2 * (weights * self._divergences(own, other, labels)).mean()

    def _regions(self, maps: Tensor) -> Tensor:
        """Logits of all regions, (N, regions, classes), the coarsest first."""
        pooled = [F.adaptive_avg_pool2d(maps, scale).flatten(2) for scale in self.scales]
        return torch.cat(pooled, dim=2).mT

    def _divergences(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Divergence of every region, (N, regions), without the factor of the temperature."""
        samples, regions, _ = student.shape
        own, other = (logits.flatten(0, 1) / self.temperature for logits in (student, teacher))
        if self.divergence == "kd":
            return _kl(own.log_softmax(1), other.log_softmax(1)).view(samples, regions)
        labels = labels.repeat_interleave(regions)
        (own_label, own_others), (label, others) = (split_by_label(logits, labels) for logits in (own, other))
        among_others = _kl(own_others.log_softmax(1), others.log_softmax(1))
        return (self.alpha * _kl(own_label, label) + self.beta * among_others).view(samples, regions)


def _kl(student: Tensor, teacher: Tensor) -> Tensor:
    """Divergence of logarithms of probabilities, (N, classes), of every sample."""
    return F.kl_div(student, teacher, reduction="none", log_target=True).sum(1)
