"""Correlation congruence (Peng et al., 2019)."""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint._util.distributed import gather
from pursuhint.losses._parts.vectors import unit_length
from pursuhint.losses.base import EmbeddingLoss
from pursuhint.losses.checks import check_non_negative, check_positive, check_same_batch

__all__ = ["CorrelationCongruenceLoss"]


class CorrelationCongruenceLoss(EmbeddingLoss):
    r"""Ask the student for the teacher's correlations between samples.

    With ``relation="neighbors"``, the default, both embeddings are mapped to the same width,
    :math:`u = W_S e_S + b_S` and :math:`v = W_T e_T + b_T`, both learned, and the differences of one sample
    are multiplied by those of the next one in the batch,

    .. math:: L = \frac{1}{b - 1} \sum_{i=1}^{b-1}
              \lvert u_i - v_i \rvert \cdot \lvert u_{i+1} - v_{i+1} \rvert .

    The order of the samples matters here, and two constant maps would bring the loss to zero; only its small
    weight keeps the student from learning them. This is the form that the authors gave to the CIFAR-100
    benchmark of Tian et al. (ICLR 2020), to which the weight 0.02 belongs; it is the default for that reason.

    With ``relation="gaussian"``, as in the paper, the two matrices of all correlations are compared,

    .. math:: L = \frac{1}{b^2} \lVert K_T - K_S \rVert_F^2, \quad
              K_{ij} = e^{-2\gamma} \sum_{p=0}^{P} \frac{(2\gamma)^p}{p!} (\hat e_i \cdot \hat e_j)^p ,

    where :math:`\hat e` are the embeddings scaled to unit length and :math:`K` the Taylor expansion of
    :math:`\exp(-\gamma \lVert \hat e_i - \hat e_j \rVert^2)`. Nothing is learned then. The paper
    embeds in 128 dimensions first, which a matrix of one size for any width makes needless.

    Widths may differ. The samples of all ranks are compared with one another. A batch of one has no
    neighbours and gives 0.

    Reference: B. Peng, X. Jin, J. Liu, D. Li, Y. Wu, Y. Liu, S. Zhou and Z. Zhang, Correlation Congruence for
    Knowledge Distillation, ICCV 2019, https://arxiv.org/abs/1904.01802.

    Args:
        student_width: width of the student's embedding.
        teacher_width: width of the teacher's embedding.
        relation: ``"neighbors"`` or ``"gaussian"``.
        embedding_width: width of the common space of ``"neighbors"``.
        gamma: inverse squared length within which samples count as similar, of ``"gaussian"``; above 0.
        order: last power of the Taylor expansion, of ``"gaussian"``.

    Raises:
        PursuhintError: a number is out of its range.

    Example:
        >>> CorrelationCongruenceLoss(64, 256)(torch.randn(8, 64), torch.randn(8, 256)).shape
        torch.Size([])
    """

    info = EmbeddingLoss.info.replace(
        title="CC",
        paper="Peng et al., Correlation Congruence for Knowledge Distillation, ICCV 2019",
        learns="a projection of either embedding",
        default_weight=0.02,
        only_with=(
            ("embedding_width", "relation", "neighbors"),
            ("gamma", "relation", "gaussian"),
            ("order", "relation", "gaussian"),
        ),
        batch_coupled=True,
    )

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        *,
        relation: Literal["neighbors", "gaussian"] = "neighbors",
        embedding_width: int = 128,
        gamma: float = 0.4,
        order: int = 2,
    ) -> None:
        super().__init__()
        check_positive(embedding_width=embedding_width, gamma=gamma)
        check_non_negative(order=order)
        self.relation = relation
        self.gamma = gamma
        self.order = order
        if relation == "neighbors":
            self.student_embedding = nn.Linear(student_width, embedding_width)
            self.teacher_embedding = nn.Linear(teacher_width, embedding_width)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the embeddings of one batch.

        Args:
            student: (N, D_s).
            teacher: (N, D_t).

        Returns:
            Scalar, at least 0.

        Raises:
            PursuhintError: the batch sizes differ.
        """
        check_same_batch(student, teacher)
        student, teacher = gather(student), gather(teacher)
        if self.relation == "gaussian":
            return F.mse_loss(self._correlations(student), self._correlations(teacher))
        # |u_i - v_i|, then products of each sample's with the next sample's
        difference = (self.student_embedding(student) - self.teacher_embedding(teacher)).abs()
        return (difference[:-1] * difference[1:]).sum() / max(len(difference) - 1, 1)

    def _correlations(self, embedding: Tensor) -> Tensor:
        """Taylor expansion of the Gaussian kernel between all samples, (N, N)."""
        # exp(-gamma |x - y|^2) = exp(-2 gamma) exp(2 gamma x . y) for unit vectors; its series up to `order`
        directions = unit_length(embedding)
        cosines = directions @ directions.T
        factors = [(2 * self.gamma) ** power / math.factorial(power) for power in range(self.order + 1)]
        series = torch.stack([factor * cosines**power for power, factor in enumerate(factors)])
        return math.exp(-2 * self.gamma) * series.sum(0)
