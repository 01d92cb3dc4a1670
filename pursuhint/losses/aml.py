"""Asymmetric metric learning (Budnik and Avrithis, 2021)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pursuhint._util.distributed import gather
from pursuhint.losses._parts.vectors import unit_length
from pursuhint.losses.base import EmbeddingLoss
from pursuhint.losses.checks import check_choice, check_non_negative, check_positive, check_same_batch

__all__ = ["AsymmetricMetricLoss"]

Reading = Literal["asymmetric"]


def asymmetric_contrast(anchors: Tensor, members: Tensor, mask: Tensor, margin: float, eps: float) -> Tensor:
    r"""Pull every anchor to the first member of its tuple and push it from the others.

    .. math:: \sum_i \tfrac{1}{2} d_{i0}^2 + \sum_{i, k > 0} \tfrac{1}{2} \max(0, m - d_{ik})^2, \quad
              d_{ik} = \lVert a_i - o_{ik} + \epsilon \rVert_2 .

    Args:
        anchors: (tuples, D).
        members: (tuples, 1 + negatives, D).
        mask: which negatives count, (tuples, negatives).
        margin: distance from which on a negative is left alone.
        eps: added to every component of the difference.

    Returns:
        Scalar: a sum, not a mean.
    """
    squares = (anchors[:, None] - members + eps).square().sum(2)
    negatives = squares[:, 1:]
    reached = mask & (negatives < margin**2)
    lengths = negatives.where(reached & (negatives > 0), 1.0).sqrt()
    lengths = lengths.where(negatives > 0, 0.0)  # without the infinite gradient of a root at zero
    return 0.5 * squares[:, 0].sum() + 0.5 * (margin - lengths).square().where(reached, 0.0).sum()


class AsymmetricMetricLoss(EmbeddingLoss):
    r"""Place the student's samples among the teacher's: near their class, away from others.

    A tuple is an anchor, embedded by the student, one sample of its class and some of other classes, embedded
    by the teacher; all have unit length. With distances :math:`d` between them,

    .. math:: L = \sum_{(i, p)} \Big[ \tfrac{1}{2} d_{ip}^2
              + \sum_{k} \tfrac{1}{2} \max(0, m - d_{ik})^2 \Big] ,

    a sum over tuples, not a mean. The authors sample images for their tuples; here a batch gives one tuple
    for every ordered pair of different samples of one class, with the negatives that the teacher has
    nearest to the anchor, so that nothing is drawn at random. A batch without such a pair gives zero. The
    classes of the teacher may be others than the task's. Where the widths differ a linear map without bias,
    learned, takes the student's embedding to the teacher's; the paper has equal widths. How many tuples there
    are depends on the labels, so finding them makes the host of a GPU wait once a step.

    The baseline "AML" of REFILLED comes without a citation. This is asymmetric metric learning, which distils
    embeddings without common classes. The other method of that name, adversarial metric learning (Chen et
    al., IJCAI 2018), has no teacher and is not available. ``reading`` records which is meant.

    Reference: M. Budnik and Y. Avrithis, Asymmetric Metric Learning for Knowledge Transfer, CVPR 2021,
    https://arxiv.org/abs/2006.16331. The authors retrieve images and use no classification term; no weight is
    published for one.

    Args:
        student_width: width of the student's embedding.
        teacher_width: width of the teacher's.
        margin: :math:`m`, above 0; distances on the unit sphere are at most 2.
        negatives: negatives in a tuple, at least 1; fewer where the batch has no more.
        eps: added to every component of a difference, at least 0.
        reading: ``"asymmetric"``.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = AsymmetricMetricLoss(16, 16)
        >>> loss(torch.randn(8, 16), torch.randn(8, 16), torch.arange(8) % 3).shape
        torch.Size([])
    """

    info = EmbeddingLoss.info.replace(
        title="AML",
        paper="Budnik and Avrithis, Asymmetric Metric Learning for Knowledge Transfer, CVPR 2021",
        learns="a projection, where the widths differ",
        batch_coupled=True,
        inputs=("student_embedding", "teacher_embedding", "labels"),
    )

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        *,
        margin: float = 0.7,
        negatives: int = 5,
        eps: float = 1e-6,
        reading: Reading = "asymmetric",
    ) -> None:
        super().__init__()
        check_choice(Reading, reading=reading)
        check_positive(margin=margin, negatives=negatives)
        check_non_negative(eps=eps)
        self.margin = margin
        self.negatives = negatives
        self.eps = eps
        self.reading = reading
        self.projection = (
            nn.Identity()
            if student_width == teacher_width
            else nn.Linear(student_width, teacher_width, bias=False)
        )

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor) -> Tensor:
        """Compare the embeddings of one batch.

        Args:
            student: (N, D_s).
            teacher: (N, D_t).
            labels: class numbers, (N,).

        Returns:
            Scalar, at least 0.

        Raises:
            PursuhintError: the batch sizes differ.
        """
        check_same_batch(student, teacher)
        anchors = unit_length(gather(self.projection(student)))
        references = unit_length(gather(teacher))
        anchor, positive, negative, mask = self.tuples(anchors, references, gather(labels))
        members = torch.cat([references[positive][:, None], references[negative]], dim=1)
        return asymmetric_contrast(anchors[anchor], members, mask, self.margin, self.eps)

    @torch.no_grad()
    def tuples(
        self, anchors: Tensor, references: Tensor, labels: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Choose the tuples of a batch.

        Args:
            anchors: student's embedding, of unit length, (N, D).
            references: teacher's, of unit length, (N, D).
            labels: (N,).

        Returns:
            Rows of the anchors (tuples,), of the positives (tuples,) and of the negatives (tuples, K), and
            which negatives count (tuples, K).
        """
        same = labels[:, None] == labels
        # In the order of the distances, which the lengths of the anchors do not change.
        distances = references.square().sum(1) - 2 * anchors @ references.T
        distances = distances.masked_fill(same, torch.inf)
        nearest = distances.topk(min(self.negatives, len(labels)), dim=1, largest=False)
        anchor, positive = (same & ~torch.eye(len(labels), dtype=torch.bool, device=same.device)).nonzero(
            as_tuple=True
        )
        return anchor, positive, nearest.indices[anchor], nearest.values.isfinite()[anchor]
