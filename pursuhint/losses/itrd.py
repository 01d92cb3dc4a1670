"""Information theoretic representation distillation (Miles, Lopez Rodriguez and Mikolajczyk, 2022)."""

from __future__ import annotations

import math

from torch import Tensor, nn

from pursuhint._util.distributed import gather
from pursuhint.losses._parts.vectors import standardized, unit_length
from pursuhint.losses.base import EmbeddingLoss
from pursuhint.losses.checks import check_non_negative, check_positive, check_same_batch

__all__ = ["InformationTheoreticLoss"]


class InformationTheoreticLoss(EmbeddingLoss):
    r"""Raise the correlation of every unit with the teacher's, and what the student's batch tells about it.

    With :math:`h = W e_S + b`, learned, of the teacher's width, and :math:`c_k` the correlation of its entry
    :math:`k` with the teacher's over the batch,

    .. math:: L = \lambda_c \log_2 \sum_k |c_k - 1|^{2 \alpha} + \lambda_m \Big( \sum_{ij} G_{S,ij}^2
              - \sum_{ij} G_{ij}^2 \Big) .

    :math:`G_S` and :math:`G_T` are the matrices of the cosines of all pairs of samples, in the student's own
    space if it is as wide as the teacher's and of :math:`h` otherwise; :math:`G` is :math:`G_S G_T`, entry by
    entry, and :math:`G_S` and :math:`G` are divided by their traces. ``mutual_weight=0`` leaves the second
    term out ("ITRD (corr)" in tables). The batch is the one of all ranks.

    The correlations divide by the number of samples, the deviations by one less, as in the authors' code:
    the first term is at least :math:`\lambda_c \log_2 (d \, b^{-2 \alpha})` and negative for good students.
    Units that are constant over the batch, for which that code gives NaN, have the correlation 0, and zero
    embeddings the cosine 0. The paper writes both terms as differences of Renyi entropies; the code, followed
    by default because its results are the published ones, drops the logarithms of the second, which
    ``mutual_logarithms`` brings back: :math:`\log_2 \sum G_{S,ij}^2 - \log_2 \sum G_{ij}^2`.

    Reference: R. Miles, A. Lopez Rodriguez and K. Mikolajczyk, Information Theoretic Representation
    Distillation, BMVC 2022, https://arxiv.org/abs/2112.00459. The defaults are those of the authors' loss;
    the example of their description takes ``mutual_weight=1`` and ``alpha=1.01``.

    Args:
        student_width: width of the student's embedding.
        teacher_width: width of the teacher's embedding.
        correlation_weight: :math:`\lambda_c`, at least 0.
        mutual_weight: :math:`\lambda_m`, at least 0.
        alpha: order of the entropy, above 0.
        mutual_logarithms: take logarithms to the base of 2 of both sums of the second term.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = InformationTheoreticLoss(64, 256)
        >>> loss(torch.randn(8, 64), torch.randn(8, 256)).shape
        torch.Size([])
    """

    info = EmbeddingLoss.info.replace(
        title="ITRD",
        paper="Miles et al., Information Theoretic Representation Distillation, BMVC 2022",
        learns="a projection of the student's embedding",
        default_weight=1.0,
        minimum=None,
        batch_coupled=True,
    )

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        *,
        correlation_weight: float = 2.0,
        mutual_weight: float = 0.05,
        alpha: float = 1.5,
        mutual_logarithms: bool = False,
    ) -> None:
        super().__init__()
        check_non_negative(correlation_weight=correlation_weight, mutual_weight=mutual_weight)
        check_positive(alpha=alpha)
        self.correlation_weight = correlation_weight
        self.mutual_weight = mutual_weight
        self.alpha = alpha
        self.mutual_logarithms = mutual_logarithms
        self.student_embed = nn.Linear(student_width, teacher_width)

    def terms(self, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Compare the embeddings of one batch.

        Args:
            student: (N, D_s).
            teacher: (N, D_t).

        Returns:
            The addends, weighted: ``correlation`` and ``mutual``, the latter unless its weight is 0.
            Their sum is at least ``correlation_weight * log2(D_t * N ** (-2 * alpha))``, less
            ``mutual_weight`` (with logarithms ``mutual_weight * log2(N)``).

        Raises:
            PursuhintError: the batch sizes differ.
        """
        check_same_batch(student, teacher)
        mapped = gather(self.student_embed(student))
        own = mapped if student.shape[1] != teacher.shape[1] else gather(student)
        teacher = gather(teacher)
        terms = {"correlation": self.correlation_weight * _correlation(mapped, teacher, self.alpha)}
        if self.mutual_weight:
            terms["mutual"] = self.mutual_weight * self._mutual(own, teacher)
        return terms

    def _mutual(self, student: Tensor, teacher: Tensor) -> Tensor:
        own, other = (vectors @ vectors.T for vectors in (unit_length(student), unit_length(teacher)))
        # Renyi's entropy of order 2 from the traces of normalised Gram matrices: own, and joint (own * other)
        purity, joint = _purity(own), _purity(own * other)
        if not self.mutual_logarithms:
            return purity - joint
        known = (purity > 0) & (joint > 0)  # embeddings that are all zero have no entropy
        return (purity.where(known, 1.0).log() - joint.where(known, 1.0).log()) / math.log(2)


def _correlation(student: Tensor, teacher: Tensor, alpha: float) -> Tensor:
    # Diagonal of the cross-correlation of both batches; log2 of the sum of |c - 1|^(2 alpha).
    correlations = (standardized(student, dim=0) * standardized(teacher, dim=0)).mean(0)
    return ((correlations - 1).square() ** alpha).sum().log() / math.log(2)


def _purity(gram: Tensor) -> Tensor:
    """Sum of the squares of a matrix that is divided by its trace; zero for a matrix of zeros."""
    trace = gram.trace()
    return (gram / trace.where(trace > 0, 1.0)).square().sum()
