"""Relational knowledge distillation (Park et al., 2019)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from pursuhint._util.distributed import gather
from pursuhint.losses._parts.vectors import in_range, unit_length
from pursuhint.losses.base import EmbeddingLoss
from pursuhint.losses.checks import check_non_negative, check_positive, check_same_batch

__all__ = ["RelationalLoss"]


class RelationalLoss(EmbeddingLoss):
    r"""Ask the student for the teacher's distances between samples, and angles among them.

    With :math:`d_{ij} = \lVert e_i - e_j \rVert`, :math:`\mu` the mean of the distances between different
    samples, :math:`a_{ijk}` the cosine of the angle at :math:`e_i` between :math:`e_j` and :math:`e_k`, and
    :math:`\ell` the smooth L1 distance of threshold 1,

    .. math:: L = w_d \, \frac{1}{b^2} \sum_{ij}
              \ell \Big( \frac{d_{ij}^S}{\mu^S}, \frac{d_{ij}^T}{\mu^T} \Big)
              + w_a \, \frac{1}{b^3} \sum_{ijk} \ell \big( a_{ijk}^S, a_{ijk}^T \big) .

    Both means run over all entries, as in the code of the CIFAR-100 benchmark of Tian et al. (ICLR 2020), to
    which the weight 1 belongs; those of one sample with itself are zero. The paper divides by the numbers of
    pairs and triples of different samples, which ``average="distinct"`` does.

    Widths may differ. Nothing is learned. Distances are those of the differences themselves, so that a large
    offset of all embeddings costs no precision; equal samples, whose angles have an infinite gradient, get
    none. Memory grows as :math:`b^2 D + b^3`. The samples of all ranks are compared with one another. A
    batch of one gives 0; one of two has angles and relative distances that never change.

    Reference: W. Park, D. Kim, Y. Lu and M. Cho, Relational Knowledge Distillation, CVPR 2019,
    https://arxiv.org/abs/1904.05068.

    Args:
        distance_weight: :math:`w_d`, at least 0.
        angle_weight: :math:`w_a`, at least 0.
        average: ``"all"`` or ``"distinct"``.
        eps: smallest squared distance between two samples, above 0.

    Raises:
        PursuhintError: a number is out of its range.

    Example:
        >>> RelationalLoss()(torch.randn(8, 64), torch.randn(8, 256)).shape
        torch.Size([])
    """

    info = EmbeddingLoss.info.replace(
        title="RKD",
        paper="Park et al., Relational Knowledge Distillation, CVPR 2019",
        default_weight=1.0,
        batch_coupled=True,
    )

    def __init__(
        self,
        *,
        distance_weight: float = 25.0,
        angle_weight: float = 50.0,
        average: Literal["all", "distinct"] = "all",
        eps: float = 1e-12,
    ) -> None:
        super().__init__()
        check_non_negative(distance_weight=distance_weight, angle_weight=angle_weight)
        check_positive(eps=eps)
        self.distance_weight = distance_weight
        self.angle_weight = angle_weight
        self.average = average
        self.eps = eps

    def terms(self, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Compare the embeddings of one batch.

        Args:
            student: (N, D_s).
            teacher: (N, D_t).

        Returns:
            The parts of the distances and of the angles, with their weights. Their sum is at least 0;
            zero when the embeddings are equal up to rotation, offset and scale.

        Raises:
            PursuhintError: the batch sizes differ.
        """
        check_same_batch(student, teacher)
        own, other = _differences(gather(student)), _differences(gather(teacher))
        b = len(own)
        pairs, triples = b * b, b**3
        if self.average == "distinct":
            pairs, triples = b * (b - 1), b * (b - 1) * (b - 2)
        distance = _smooth_l1_sum(self._relative_distances(own), self._relative_distances(other))
        angle = _smooth_l1_sum(_cosines(own), _cosines(other))
        return {
            "distance": self.distance_weight * distance / max(pairs, 1),
            "angle": self.angle_weight * angle / max(triples, 1),
        }

    def _relative_distances(self, differences: Tensor) -> Tensor:
        """Distances between all samples, divided by their mean; (N, N), zero on the diagonal."""
        same = torch.eye(len(differences), dtype=torch.bool, device=differences.device)
        # psi_D: distances of all pairs over their mean; squares are clamped, as the root has no slope at 0
        squared = differences.square().sum(2).clamp(min=self.eps)
        distances = squared.sqrt().masked_fill(same, 0.0)
        mean = distances.sum() / max(len(distances) * (len(distances) - 1), 1)
        return distances / mean.clamp(min=torch.finfo(mean.dtype).tiny)  # a batch of one has a mean of 0


def _differences(embedding: Tensor) -> Tensor:
    """What leads from sample i to sample j, (N, N, D)."""
    embedding = in_range(embedding)
    return embedding[None, :] - embedding[:, None]


def _cosines(differences: Tensor) -> Tensor:
    """Cosines of the angles at sample i between samples j and k, (N, N, N)."""
    # psi_A: e_ij . e_ik, for unit vectors from i to j and from i to k
    directions = unit_length(differences, ranged=True)
    return directions @ directions.mT


def _smooth_l1_sum(first: Tensor, second: Tensor) -> Tensor:
    return F.smooth_l1_loss(first, second, reduction="sum")
