"""Invariant consistency distillation (Giakoumoglou and Stathaki, 2024)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor
from torch.nn import functional as F

from pursuhint.losses.checks import check_choice
from pursuhint.losses.dcd import DiscriminativeConsistentLoss

__all__ = ["InvariantConsistencyLoss"]

Distribution = Literal["similarities", "representations"]


class InvariantConsistencyLoss(DiscriminativeConsistentLoss):
    r"""Tell each sample from the others of the batch as the teacher sees them, with equal distributions.

    Both embeddings are mapped linearly to vectors :math:`u` of the student and :math:`v` of the teacher, of
    unit length. With a learned scale and bias,

    .. math:: L = - \frac{1}{n} \sum_i \log \frac{\exp(e^s u_i \cdot v_i + b)}{\sum_j \exp(e^s u_i \cdot v_j
              + b)} + \alpha \, \frac{1}{n} \sum_i \mathrm{KL}(p^T_i \,\|\, p^S_i)

    (eq. 2-5). The negatives are the other samples of the batch: there is no memory bank. The scale
    :math:`e^s` is at most ``max_scale``. The bias cancels in all softmaxes, so that its gradient is zero.

    The paper calls the second term a divergence of the distributions of both representations and does not
    define them. ``distribution="similarities"``, the default, is the objective of the authors' code:
    :math:`p^S_i` is the softmax over row i of the scaled similarities and :math:`p^T_i` the softmax over
    column i, as in DCD, the later form of this method. ``"representations"`` reads eq. 5 literally: the
    softmaxes over the entries of :math:`u_i` and :math:`v_i`. Defaults of :math:`\alpha` and the scale are
    those of the code. The paper adds the loss to cross-entropy and KD (eq. 7): ``--loss icd --loss kd``.

    Reference: N. Giakoumoglou and T. Stathaki, Invariant Consistency for Knowledge Distillation, arXiv
    2407.11802v1 (2024), https://arxiv.org/abs/2407.11802v1.

    Args:
        student_width: width of the student's embedding.
        teacher_width: width of the teacher's embedding.
        distribution: ``"similarities"`` or ``"representations"``.
        alpha: weight of the second term, at least 0.
        max_scale: upper bound of the scale, above 0.
        initial_log_scale: :math:`s` at the start.
        initial_bias: :math:`b` at the start.
        width: length of the vectors that are compared.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = InvariantConsistencyLoss(64, 256)
        >>> loss(torch.randn(8, 64), torch.randn(8, 256)).shape
        torch.Size([])
    """

    info = DiscriminativeConsistentLoss.info.replace(
        title="ICD",
        paper="Giakoumoglou and Stathaki, Invariant Consistency for Knowledge Distillation, 2024",
        learns="a projection of either embedding, scale and bias",
    )

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        *,
        distribution: Distribution = "similarities",
        alpha: float = 0.5,
        max_scale: float = 10.0,
        initial_log_scale: float = 1.0,
        initial_bias: float = 0.0,
        width: int = 128,
    ) -> None:
        check_choice(Distribution, distribution=distribution)
        super().__init__(
            student_width,
            teacher_width,
            alpha=alpha,
            max_scale=max_scale,
            initial_log_scale=initial_log_scale,
            initial_bias=initial_bias,
            width=width,
        )
        self.distribution = distribution

    def invariance(self, student: Tensor, teacher: Tensor, scores: Tensor) -> Tensor:
        """The second term without its weight; see `DiscriminativeConsistentLoss.invariance`."""
        if self.distribution == "similarities":
            return super().invariance(student, teacher, scores)
        return F.kl_div(
            F.log_softmax(student, dim=1),
            F.log_softmax(teacher, dim=1),
            reduction="batchmean",
            log_target=True,
        )
