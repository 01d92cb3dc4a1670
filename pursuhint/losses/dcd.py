"""Discriminative and consistent distillation (Giakoumoglou and Stathaki, 2024)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint._util.distributed import gather
from pursuhint.losses._parts.vectors import unit_length
from pursuhint.losses.base import EmbeddingLoss
from pursuhint.losses.checks import check_non_negative, check_positive, check_same_batch

__all__ = ["DiscriminativeConsistentLoss"]


class DiscriminativeConsistentLoss(EmbeddingLoss):
    r"""Let the student find the teacher's view of each sample in the batch, and the teacher the student's.

    Both embeddings are mapped linearly to vectors :math:`u` of the student and :math:`v` of the teacher, of
    unit length, which are compared with a learned scale and bias, :math:`l_{ij} = e^s \, u_i \cdot v_j + b`:

    .. math:: L = - \frac{1}{n} \sum_i \log p_{ii} + \frac{\alpha}{n} \sum_{ij} \tilde p_{ij}
              \log \frac{\tilde p_{ij}}{p_{ij}}, \quad p_{ij} = \frac{e^{l_{ij}}}{\sum_k e^{l_{ik}}}, \quad
              \tilde p_{ij} = \frac{e^{l_{ji}}}{\sum_k e^{l_{ki}}} .

    The first term is contrastive, from the student to the teacher. The second asks that both sides give the
    batch the same probabilities. The scale :math:`e^s` is at most ``max_scale``; there its gradient is zero.
    The bias leaves all probabilities as they are, so that its gradient is always zero. Widths may differ; the
    maps of both networks are trained. In distributed training the batch is the one of all ranks.

    The construction of both distributions is that of the authors' code. ``trainable_scale=False`` gives its
    other mode, a constant scale and no bias. There the number 0.07 multiplies, and makes all similarities
    nearly equal; a division was probably meant: that would be a ``fixed_scale`` of 14.3.

    Reference: N. Giakoumoglou and T. Stathaki, Discriminative and Consistent Representation Distillation,
    arXiv 2407.11802 (2024), https://arxiv.org/abs/2407.11802.

    Args:
        student_width: width of the student's embedding.
        teacher_width: width of the teacher's embedding.
        alpha: weight of the second term, at least 0.
        max_scale: upper bound of the learned scale, above 0.
        trainable_scale: learn scale and bias.
        fixed_scale: the scale if it is not learned, above 0.
        initial_log_scale: the learned :math:`s` at the start.
        initial_bias: the learned :math:`b` at the start.
        width: length of the vectors that are compared.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = DiscriminativeConsistentLoss(64, 256)
        >>> loss(torch.randn(8, 64), torch.randn(8, 256)).shape
        torch.Size([])
    """

    info = EmbeddingLoss.info.replace(
        title="DCD",
        paper="Giakoumoglou and Stathaki, Discriminative and Consistent Representation Distillation, 2024",
        learns="a projection of either embedding, scale and bias",
        default_weight=1.0,
        minimum=None,
        batch_coupled=True,
        only_with=(
            ("fixed_scale", "trainable_scale", False),
            ("max_scale", "trainable_scale", True),
            ("initial_log_scale", "trainable_scale", True),
            ("initial_bias", "trainable_scale", True),
        ),
    )

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        *,
        alpha: float = 0.5,
        max_scale: float = 10.0,
        trainable_scale: bool = True,
        fixed_scale: float = 0.07,
        initial_log_scale: float = 1.0,
        initial_bias: float = 0.0,
        width: int = 128,
    ) -> None:
        super().__init__()
        check_non_negative(alpha=alpha)
        check_positive(max_scale=max_scale, fixed_scale=fixed_scale, width=width)
        self.alpha = alpha
        self.max_scale = max_scale
        self.trainable_scale = trainable_scale
        self.fixed_scale = fixed_scale
        self.student_embed = nn.Linear(student_width, width)
        self.teacher_embed = nn.Linear(teacher_width, width)
        if trainable_scale:
            self.log_scale = nn.Parameter(torch.tensor(float(initial_log_scale)))
            self.bias = nn.Parameter(torch.tensor(float(initial_bias)))

    def terms(self, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
        """Compare the embeddings of one batch.

        Args:
            student: (N, D_s).
            teacher: (N, D_t).

        Returns:
            The two addends, weighted: ``contrastive`` and ``invariance``. Their sum is at least 0.

        Raises:
            PursuhintError: the batch sizes differ.
        """
        check_same_batch(student, teacher)
        own = gather(unit_length(self.student_embed(student)))
        other = gather(unit_length(self.teacher_embed(teacher)))
        # A row holds the scores of one student vector with all teacher vectors: its own is the right class.
        scores = self.scaled(own @ other.T)
        labels = torch.arange(len(scores), device=scores.device)
        return {
            "contrastive": F.cross_entropy(scores, labels),
            "invariance": self.alpha * self.invariance(own, other, scores),
        }

    def scaled(self, cosines: Tensor) -> Tensor:
        """Similarities with scale and bias."""
        if not self.trainable_scale:
            return self.fixed_scale * cosines
        # The clamp comes before the exponential, whose overflow would have no gradient.
        return cosines * self.log_scale.clamp(max=math.log(self.max_scale)).exp() + self.bias

    def invariance(self, student: Tensor, teacher: Tensor, scores: Tensor) -> Tensor:
        """The second term without its weight.

        Args:
            student: vectors of unit length, (N, width).
            teacher: the same.
            scores: their scaled similarities, (N, N).
        """
        # p^S_i from row i, p^T_i from column i of the same scores
        return F.kl_div(
            F.log_softmax(scores, dim=1),
            F.log_softmax(scores, dim=0).T,
            reduction="batchmean",
            log_target=True,
        )
