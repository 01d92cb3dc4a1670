"""Orthogonal projection to the teacher's normalized embedding: VkD (Miles, Elezi and Deng, 2024)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.losses._parts.orthogonal import OrthogonalProjection
from pursuhint.losses._parts.vectors import range_scale
from pursuhint.losses.base import EmbeddingLoss
from pursuhint.losses.checks import check_choice, check_positive, check_same_batch

__all__ = ["OrthogonalProjectionLoss"]

Projection = Literal["orthogonal", "linear"]


class OrthogonalProjectionLoss(EmbeddingLoss):
    r"""Compare an orthogonal projection of the student's embedding with the teacher's normalized one.

    .. math:: L = \frac{1}{b d} \sum_{i, j} \mathrm{huber}\big( (P e_S)_{ij} - \mathrm{LN}(e_T)_{ij} \big) ,

    where :math:`P` has orthonormal columns (rows, where the teacher's embedding is the narrower one),
    :math:`\mathrm{LN}` brings every sample's embedding to mean 0 and variance 1 over its d features, and
    :math:`\mathrm{huber}(x)` is :math:`x^2 / 2` up to 1 and :math:`|x| - 1/2` beyond. A projection that keeps
    distances cannot do the student's work: what it learns must be in its features. Classes and widths may
    differ.

    Reference: R. Miles, I. Elezi and J. Deng, VkD: Improving Knowledge Distillation using Orthogonal
    Projections, CVPR 2024, https://arxiv.org/abs/2403.06213. Beside it the authors train KD at temperature 1.
    Theirs are vision transformers, whose embedding here is what the classifier takes; their code averages the
    patch tokens.

    Args:
        student_width: width of the student's embedding.
        teacher_width: width of the teacher's embedding.
        projection: ``"orthogonal"``, or ``"linear"``, a free one without bias, with which the paper compares.
        norm_eps: added to the variances, above 0.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = OrthogonalProjectionLoss(16, 64)
        >>> loss(torch.randn(8, 16), torch.randn(8, 64)).shape
        torch.Size([])
    """

    info = EmbeddingLoss.info.replace(
        title="VkD",
        paper="Miles, Elezi and Deng, VkD: Improving KD using Orthogonal Projections, CVPR 2024",
        learns="an orthogonal projection of the student's embedding",
        minimum=None,
    )

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        *,
        projection: Projection = "orthogonal",
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        check_choice(Projection, projection=projection)
        check_positive(norm_eps=norm_eps)
        self.norm_eps = norm_eps
        self.project: nn.Module = (
            OrthogonalProjection(student_width, teacher_width)
            if projection == "orthogonal"
            else nn.Linear(student_width, teacher_width, bias=False)
        )

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the embeddings of one batch.

        Args:
            student: (N, student_width).
            teacher: (N, teacher_width).

        Returns:
            Scalar, at least 0; zero when the projection gives the teacher's normalized embedding.

        Raises:
            PursuhintError: the batch sizes differ.
        """
        check_same_batch(student, teacher)
        return F.smooth_l1_loss(self.project(student), self._normalized(teacher))

    def _normalized(self, values: Tensor) -> Tensor:
        """Layer norm without scale and shift; also of values whose squares would overflow."""
        scale = range_scale(values, dim=1)
        values = values * scale
        centered = values - values.mean(1, keepdim=True)
        variance = centered.square().mean(1, keepdim=True)
        return centered * (variance + self.norm_eps * scale.square()).rsqrt()
