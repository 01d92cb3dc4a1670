"""Class attention transfer: CAT-KD (Guo, Yan, Li and Lin, 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.losses._parts.classifier_maps import ClassifierMaps
from pursuhint.losses._parts.vectors import unit_length
from pursuhint.losses.base import HintsLoss
from pursuhint.losses.checks import check_positive, check_same_batch
from pursuhint.losses.context import LossContext

__all__ = ["ClassAttentionLoss"]


class ClassAttentionLoss(HintsLoss):
    r"""Ask for the teacher's class activation maps: where it sees each class.

    With :math:`A^c(x, y) = \sum_k w^c_k F_k(x, y)`, the classifier's weights applied to every position of the
    last map, averaged down to ``resolution`` x ``resolution``,

    .. math:: L = \frac{1}{b k r^2} \sum_i \sum_c \lVert A^c_S - A^c_T \rVert_2^2 ,

    for k classes and :math:`r^2` positions; with ``normalize`` every map is divided by its length. Gradients
    reach the student's classifier, too. Nothing is learned beside the student. Sizes and widths may differ;
    the classes must be the same. Both networks should average their last map and classify the mean.

    Reference: Z. Guo, H. Yan, H. Li and X. Lin, Class Attention Transfer Based Knowledge Distillation, CVPR
    2023, https://arxiv.org/abs/2304.12777. The authors' code replaces the classifier by a 1x1 convolution
    without bias, which the mean commutes with; here networks stay as they are, with the bias, which does not
    enter the maps. Its weights go by pair, see the recipe ``cifar100-cat-kd``: from 0.7 to 15 for maps as
    they are, in pairs of one family, and from 15 to 600 for such of length 1, in other pairs; 400 is
    the default of its configuration, with ``normalize``.

    Args:
        student_classifier: the student's.
        teacher_classifier: the teacher's; copied and frozen.
        resolution: height and width of the maps that are compared, at least 1.
        normalize: scale the map of every class to length 1.

    Raises:
        PursuhintError: ``resolution`` is not positive, or the classifiers do not fit.

    Example:
        >>> loss = ClassAttentionLoss(nn.Linear(16, 10), nn.Linear(64, 10))
        >>> loss([torch.randn(8, 16, 4, 4)], [torch.randn(8, 64, 2, 2)]).shape
        torch.Size([])
    """

    info = HintsLoss.info.replace(
        title="CAT-KD",
        paper="Guo et al., Class Attention Transfer Based Knowledge Distillation, CVPR 2023",
        default_weight=15.0,
        compares="last map",
        at_last_map=True,
        needs_teacher_classifier=True,
        classifier_parameters=("weight",),
    )

    def __init__(
        self,
        student_classifier: nn.Module | ClassifierMaps,
        teacher_classifier: nn.Module | None = None,
        *,
        resolution: int = 2,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        check_positive(resolution=resolution)
        self.resolution = resolution
        self.normalize = normalize
        if not isinstance(student_classifier, ClassifierMaps):
            assert teacher_classifier is not None
            student_classifier = ClassifierMaps(student_classifier, teacher_classifier, bias=False)
        self.class_maps = student_classifier

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """The classifiers of both networks."""
        return {"student_classifier": ClassifierMaps.of(context, bias=False)}

    def prepare(self, student: nn.Module) -> nn.Module:
        """Look up the student's classifier; nothing is changed."""
        self.class_maps.prepare(student)
        return student

    def forward(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
        """Compare the class maps of one batch.

        Args:
            students: the student's last map, (N, C_s, H_s, W_s), or its embedding, (N, C_s).
            teachers: the teacher's, (N, C_t, H_t, W_t) or (N, C_t).

        Returns:
            Scalar, at least 0; zero when the class maps agree.

        Raises:
            PursuhintError: the batch sizes differ, or a map has another width than its classifier takes.
        """
        (student,), (teacher,) = students, teachers
        check_same_batch(student, teacher)
        own, other = (
            F.adaptive_avg_pool2d(maps, self.resolution).flatten(2)
            for maps in self.class_maps(student, teacher)
        )
        if self.normalize:
            own, other = unit_length(own), unit_length(other)
        return F.mse_loss(own, other)
