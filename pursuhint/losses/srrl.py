"""Softmax regression representation learning (Yang et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint._util.wrappers import copy_network
from pursuhint.errors import PursuhintError
from pursuhint.features.pooling import MeanPooling
from pursuhint.losses._parts.connectors import NormalizedConv, NormalizedProjection
from pursuhint.losses.base import HintsLoss
from pursuhint.losses.checks import check_choice, check_non_negative, check_same_batch
from pursuhint.losses.context import LossContext

__all__ = ["SoftmaxRegressionLoss"]

pool = MeanPooling()

Variant = Literal["embedding", "feature_map"]
Connector = Literal["convolution", "orthogonal"]
PredictionDistance = Literal["squared", "cross_entropy"]


class SoftmaxRegressionLoss(HintsLoss):
    r"""Ask for an embedding that the teacher's classifier takes for the teacher's own.

    With :math:`h` the student's embedding behind a connector, :math:`e_T` and :math:`z_T` embedding and
    logits of the teacher, and :math:`W, b` its classifier, which stays as it is,

    .. math:: L = \frac{1}{n d} \lVert h - e_T \rVert_2^2
              + \lambda \, \frac{1}{n k} \lVert W h + b - z_T \rVert_2^2 .

    The connector is a 1x1 convolution without bias, batch norm and ReLU, so the teacher's embedding must not
    be negative. Two implementations of the method place it differently:

    - ``embedding``: behind the student's average over space. The code of the CIFAR-100 benchmark of Chen et
      al. (SimKD, CVPR 2022), the default, because the results for CIFAR-100 are its results. Batch norm then
      sees one value a sample, and a batch of one cannot be trained on.
    - ``feature_map``: before it, so that norm and ReLU act on the map. The authors' code, for ImageNet.

    Sizes and widths may differ; for networks that average no map into their embedding both are the same. The
    paper treats the second term as any distance between two predictions and discusses the cross-entropy of
    their probabilities, ``prediction_distance="cross_entropy"``; both implementations take the squared error
    of the logits, which is the default. In place of the connector's convolution stands a semi-orthogonal
    matrix, which keeps distances, with ``connector="orthogonal"`` (Miles, Elezi and Deng, VkD, CVPR 2024).
    Beside it the benchmark uses KD with weight 1, the authors none.

    Reference: J. Yang, B. Martinez, A. Bulat and G. Tzimiropoulos, Knowledge Distillation via Softmax
    Regression Representation Learning, ICLR 2021, https://openreview.net/forum?id=ZzwDy_wiWv.

    Args:
        student_channels: width of the student's embedding.
        teacher_channels: width of the teacher's embedding.
        teacher_classifier: copied and frozen.
        variant: ``"embedding"`` or ``"feature_map"``.
        logit_weight: :math:`\lambda`, at least 0.
        prediction_distance: ``"squared"`` or ``"cross_entropy"``, see above.
        connector: ``"convolution"`` or ``"orthogonal"``, see above.

    Raises:
        PursuhintError: ``logit_weight`` is negative.

    Example:
        >>> loss = SoftmaxRegressionLoss(16, 64, nn.Linear(64, 10))
        >>> loss([torch.randn(8, 16, 4, 4)], [torch.rand(8, 64, 2, 2)], torch.randn(8, 10)).shape
        torch.Size([])
    """

    info = HintsLoss.info.replace(
        title="SRRL",
        paper="Yang et al., KD via Softmax Regression Representation Learning, ICLR 2021",
        learns="a connector to the teacher's width",
        compares="last map",
        at_last_map=True,
        inputs=("student_maps", "teacher_maps", "teacher_logits"),
        needs_teacher_classifier=True,
    )

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        teacher_classifier: nn.Module,
        *,
        variant: Variant = "embedding",
        logit_weight: float = 1.0,
        prediction_distance: PredictionDistance = "squared",
        connector: Connector = "convolution",
    ) -> None:
        super().__init__()
        check_choice(Variant, variant=variant)
        check_choice(Connector, connector=connector)
        check_choice(PredictionDistance, prediction_distance=prediction_distance)
        check_non_negative(logit_weight=logit_weight)
        self.variant = variant
        self.logit_weight = logit_weight
        self.prediction_distance = prediction_distance
        connect = NormalizedConv if connector == "convolution" else NormalizedProjection
        self.connector = connect(student_channels, teacher_channels)
        if not isinstance(teacher_classifier, nn.Module):
            raise PursuhintError("SRRL needs the classifier of the teacher, which returns features")
        self.teacher_classifier = copy_network(teacher_classifier).requires_grad_(False)

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """Widths, and the classifier."""
        ((student, teacher),) = context.pairs
        return {
            "student_channels": student.channels,
            "teacher_channels": teacher.channels,
            "teacher_classifier": context.teacher_classifier,
        }

    def terms(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor], teacher_logits: Tensor
    ) -> dict[str, Tensor]:
        """Compare the embeddings of one batch.

        Args:
            students: the student's last map, (N, C_s, H_s, W_s), or its embedding, (N, C_s).
            teachers: the teacher's, (N, C_t, H_t, W_t) or (N, C_t).
            teacher_logits: (N, classes of the teacher).

        Returns:
            The two addends, weighted: ``feature`` and ``logit``. Their sum is at least 0; zero when the
            connector gives the teacher's embedding. With cross-entropy, at least that of the teacher's
            predictions with themselves.

        Raises:
            PursuhintError: the batch sizes differ, or a batch is too small for batch norm.
        """
        (student,), (teacher,) = students, teachers
        check_same_batch(student, teacher)
        connected = self.connected(student)  # h
        own = self.classified(connected)  # W h + b
        distance = (
            F.mse_loss(own, teacher_logits)
            if self.prediction_distance == "squared"
            else F.cross_entropy(own, teacher_logits.softmax(1))
        )
        return {
            "feature": F.mse_loss(connected, pool(teacher)),
            "logit": self.logit_weight * distance,
        }

    def connected(self, student: Tensor) -> Tensor:
        """The student's embedding as the teacher's classifier sees it, (N, C_t), from its last map."""
        if self.variant == "embedding":
            student = pool(student)
        if student.ndim == 3:
            student = student.transpose(1, 2)[..., None]
        elif student.ndim == 2:
            student = student[:, :, None, None]
        return pool(torch.relu(self.connector(student)))

    def classified(self, connected: Tensor) -> Tensor:
        """What the teacher's classifier makes of (N, C_t), (N, classes)."""
        if isinstance(self.teacher_classifier, nn.Conv2d):
            connected = connected[:, :, None, None]
        logits: Tensor = self.teacher_classifier(connected)
        return logits.flatten(1)
