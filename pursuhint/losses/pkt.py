"""Probabilistic knowledge transfer (Passalis and Tefas, 2018)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pursuhint._util.distributed import gather
from pursuhint.losses._parts.vectors import lengths
from pursuhint.losses.base import EmbeddingLoss
from pursuhint.losses.checks import check_positive, check_same_batch

__all__ = ["ProbabilisticTransferLoss"]


class ProbabilisticTransferLoss(EmbeddingLoss):
    r"""Ask the student for the teacher's probabilities of meeting a sample near another one.

    With the cosine similarities of all samples mapped to [0, 1] and their rows scaled to probabilities,

    .. math:: c_{ij} = \frac{1}{2} \Big( \frac{e_i \cdot e_j}{(\lVert e_i \rVert + \epsilon)
              (\lVert e_j \rVert + \epsilon)} + 1 \Big), \quad P_{ij} = \frac{c_{ij}}{\sum_k c_{ik}}, \quad
              L = \frac{1}{b^2} \sum_{ij} P_{ij}^T \log \frac{P_{ij}^T + \epsilon}{P_{ij}^S + \epsilon} .

    This is the form of the authors' code and of the CIFAR-100 benchmark of Tian et al. (ICLR 2020), to which
    the weight 30000 belongs. The paper leaves the sample itself out (``include_self=False``) and sums over
    the pairs (``reduction="sum"``), with a weight that is smaller accordingly.

    Widths may differ. Nothing is learned. An embedding of zeros is as far from all others as an orthogonal
    one, and gets no gradient, where the authors' code gives NaN. The quotient is never rounded to 1 first,
    so that single precision keeps more digits. The samples of all ranks are compared with one another. A
    batch of one gives 0.

    Reference: N. Passalis and A. Tefas, Learning Deep Representations with Probabilistic Knowledge Transfer,
    ECCV 2018, https://arxiv.org/abs/1803.10837.

    Args:
        include_self: whether a sample's similarity with itself counts.
        reduction: ``"mean"`` over all pairs, or their ``"sum"``.
        eps: added to lengths and probabilities, above 0.

    Raises:
        PursuhintError: ``eps`` is not positive.

    Example:
        >>> ProbabilisticTransferLoss()(torch.randn(8, 64), torch.randn(8, 256)).shape
        torch.Size([])
    """

    info = EmbeddingLoss.info.replace(
        title="PKT",
        paper="Passalis and Tefas, Deep Representations with Probabilistic Knowledge Transfer, ECCV 2018",
        default_weight=30000.0,
        batch_coupled=True,
    )

    def __init__(
        self, *, include_self: bool = True, reduction: Literal["mean", "sum"] = "mean", eps: float = 1e-7
    ) -> None:
        super().__init__()
        check_positive(eps=eps)
        self.include_self = include_self
        self.reduction = reduction
        self.eps = eps

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the embeddings of one batch.

        Args:
            student: (N, D_s).
            teacher: (N, D_t).

        Returns:
            Scalar, at least 0 up to ``eps``; zero when all cosine similarities agree.

        Raises:
            PursuhintError: the batch sizes differ.
        """
        check_same_batch(student, teacher)
        p, q = self._probabilities(gather(teacher)), self._probabilities(gather(student))
        # p log((p + eps) / (q + eps)), as a logarithm of 1 + x, so that equal probabilities give exactly 0
        divergence = p * torch.log1p((p - q) / (q + self.eps))
        return divergence.mean() if self.reduction == "mean" else divergence.sum()

    def _probabilities(self, embedding: Tensor) -> Tensor:
        """Every row the probabilities of meeting the others near one sample, (N, N)."""
        length = lengths(embedding, dim=1)
        directions = torch.where(length > 0, embedding, 0.0) / (length + self.eps)
        # Cosines mapped to [0, 1], then rows scaled to the sum 1.
        similarity = (directions @ directions.T + 1) / 2
        if not self.include_self:
            similarity = similarity - similarity.diagonal().diag()
        return similarity / similarity.sum(1, keepdim=True).clamp(min=torch.finfo(similarity.dtype).tiny)
