"""Cross-layer distillation with semantic calibration (Chen et al., 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint._util.distributed import gather
from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.connectors import Bottleneck
from pursuhint.losses._parts.maps import as_maps, map_sizes, pool_to_smaller
from pursuhint.losses._parts.vectors import range_scale, unit_length
from pursuhint.losses.base import HintsLoss
from pursuhint.losses.checks import check_positive
from pursuhint.losses.context import FeatureShape, LossContext

__all__ = ["SemanticCalibrationLoss"]


class SemanticCalibrationLoss(HintsLoss):
    r"""Let every student layer learn from all teacher layers, each as much as they have in common.

    With :math:`R_{ij}` a learned map from the student's layer :math:`i` to the teacher's layer :math:`j` and
    :math:`A_{bij}` the attention that layer :math:`i` pays to layer :math:`j` on sample :math:`b`,

    .. math:: L = \frac{1}{n\,S} \sum_{b, i, j} A_{bij} \, \mathrm{mean}\,(R_{ij}(f^S_{bi}) - f^T_{bj})^2 ,
              \quad A_{bi\cdot} = \mathrm{softmax}_j\big(q_{bi}^\top k_{bj} / s\big) .

    Query :math:`q` and key :math:`k` of a sample are unit vectors that a small network makes of its inner
    products with all samples of the batch. That network acts on positions in the batch: the batch size is
    built in, and the order of the samples matters. A smaller batch, as the last of an epoch may be, counts
    the missing samples as similar to none; the reference leaves it out. A larger one is an error. Gradient
    flows through the attention too.

    Any number of layers of any width and size; where sizes differ the larger map is averaged down. Beside
    this and cross-entropy the CIFAR-100 benchmark of Chen et al. (SimKD, CVPR 2022) uses KD with weight 1.

    Reference: D. Chen, J.-P. Mei, Y. Zhang, C. Wang, Z. Wang, Y. Feng and C. Chen, Cross-Layer Distillation
    with Semantic Calibration, AAAI 2021, https://arxiv.org/abs/2012.03236. The weight 400 is theirs.

    Args:
        students: shapes of the student's features, shallow to deep.
        teachers: shapes of the teacher's.
        training_batch: samples in a batch, over all ranks, if ``batch_size`` does not say.
        batch_size: the same; None for the batch size of the training, or 64 where that is unknown.
        factor: the batch size divided by this, rounded down, is the width of query and key; at least 1.
        softness: :math:`s`, divides the products of query and key, above 0.

    Raises:
        PursuhintError: a value is out of its range, or ``factor`` above the batch size.

    Example:
        >>> shapes = [FeatureShape(16, (4, 4)), FeatureShape(32, (2, 2))]
        >>> features = [torch.randn(8, 16, 4, 4), torch.randn(8, 32, 2, 2)]
        >>> SemanticCalibrationLoss(shapes, shapes, batch_size=8)(features, features).shape
        torch.Size([])
    """

    info = HintsLoss.info.replace(
        title="SemCKD",
        paper="Chen et al., Cross-Layer Distillation with Semantic Calibration, AAAI 2021",
        learns="queries, keys, and a regressor for every two layers",
        default_weight=400.0,
        batch_coupled=True,
    )

    def __init__(
        self,
        students: Sequence[FeatureShape],
        teachers: Sequence[FeatureShape],
        training_batch: int = 64,
        *,
        batch_size: int | None = None,
        factor: int = 4,
        softness: float = 1.0,
    ) -> None:
        super().__init__()
        self.batch_size = training_batch if batch_size is None else batch_size
        check_positive(batch_size=self.batch_size, factor=factor, softness=softness)
        if factor > self.batch_size:
            raise PursuhintError(f"factor must be at most the batch size {self.batch_size}, got {factor}")
        for student in students:
            for teacher in teachers:
                map_sizes(student, teacher)
        self.softness = softness
        width = self.batch_size // factor
        self.queries = nn.ModuleList([_Descriptor(self.batch_size, width) for _ in students])
        self.keys = nn.ModuleList([_Descriptor(self.batch_size, width) for _ in teachers])
        self.regressors = nn.ModuleDict(
            {
                f"{i}_{j}": Bottleneck(
                    student.channels, 2 * teacher.channels, teacher.channels, end_in_relu=False
                )
                for i, student in enumerate(students)
                for j, teacher in enumerate(teachers)
            }
        )

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """Shapes at all hint points, and the batch size of the training."""
        return {
            "students": context.student_shapes,
            "teachers": context.teacher_shapes,
            "training_batch": context.batch_size or 64,
        }

    def forward(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
        """Compare the features of all layers.

        Args:
            students: (N, C, H, W) or tokens (N, T, C), one a layer.
            teachers: features of the teacher, in the same layout.

        Returns:
            Scalar, at least 0.

        Raises:
            PursuhintError: the batch is larger than the one this was built for, or too small for batch norm.
        """
        attention = self.attention(students, teachers)
        errors = (attention * self.errors(students, teachers)).sum((1, 2))
        return gather(errors).mean() / len(students)

    def attention(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
        """How much every student layer looks at every teacher layer, (N, students, teachers)."""
        queries = [describe(*self._similarities(own)) for describe, own in zip(self.queries, students)]
        keys = [describe(*self._similarities(other)) for describe, other in zip(self.keys, teachers)]
        # alpha = softmax over the teacher's layers of q_i . k_j / s, one attention a sample
        energies = torch.einsum("ibd,jbd->bij", torch.stack(queries), torch.stack(keys))
        return (energies / self.softness).softmax(2)

    def errors(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
        """Mean squared error of every pair of layers, (N, students, teachers)."""
        rows = []
        for i, student in enumerate(students):
            row = []
            for j, teacher in enumerate(teachers):
                own, other = pool_to_smaller(*as_maps(student, teacher))
                # mean squared error of one sample, so that the sample's attention can weigh it
                row.append((self.regressors[f"{i}_{j}"](own) - other).square().mean((1, 2, 3)))
            rows.append(torch.stack(row, dim=1))
        return torch.stack(rows, dim=1)

    def _similarities(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Inner products with the samples of all ranks, padded to (N, batch_size), and their factor.

        The products have been multiplied by the factor, a scalar, so that they do not overflow; mostly 1.
        """
        flat = features.flatten(1)
        everywhere = gather(flat)
        scale = range_scale(everywhere)
        products = (flat * scale) @ (everywhere * scale).T
        missing = self.batch_size - products.shape[1]
        if missing < 0:
            raise PursuhintError(
                f"SemCKD was built for batches of {self.batch_size} samples, but got {products.shape[1]}; "
                "set its batch_size"
            )
        return F.pad(products, (0, missing)), scale.square()


class _Descriptor(nn.Module):
    """Descriptor of a layer: from similarities with the samples of a batch to a unit vector."""

    def __init__(self, batch_size: int, width: int) -> None:
        super().__init__()
        self.linear1 = nn.Linear(batch_size, 2 * width)
        self.linear2 = nn.Linear(2 * width, width)

    def forward(self, similarities: Tensor, factor: Tensor) -> Tensor:
        """The descriptor, (N, width), of similarities that were multiplied by a factor.

        It is scaled to unit length, so multiplying both biases by the factor, too, leaves it as it was.
        """
        hidden = F.linear(similarities, self.linear1.weight, factor * self.linear1.bias)
        return unit_length(F.linear(torch.relu(hidden), self.linear2.weight, factor * self.linear2.bias))
