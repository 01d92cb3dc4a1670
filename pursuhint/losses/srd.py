"""Simple recipe distillation: a projector, batch norm and a soft maximum (Miles and Mikolajczyk, 2024)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from pursuhint._util.distributed import gather
from pursuhint.losses._parts.vectors import range_scale
from pursuhint.losses.base import EmbeddingLoss
from pursuhint.losses.checks import check_choice, check_non_negative, check_positive, check_same_batch

__all__ = ["SimpleRecipeLoss"]

Variant = Literal["difference", "correlation"]


class SimpleRecipeLoss(EmbeddingLoss):
    r"""Compare normalized embeddings through a linear projector, looking most at the largest differences.

    With the student's embedding projected to the teacher's width, :math:`u = \mathrm{BN}(W e_S)`, and
    :math:`v = \mathrm{BN}(e_T)`, both normalized by the statistics of the batch, without scale and shift,

    .. math:: L = 2 \log \sum_{i, d} | u_{id} - v_{id} |^4 .

    That is the ImageNet form (``variant="difference"``). The authors' DeiT form (``"correlation"``) compares
    the features over the batch, :math:`\log ( \sum_d | c_d - 1 |^4 + 10^{-5} )` with
    :math:`c_d = \frac1b \sum_i u_{id} v_{id}`, and adds nothing to the variances. The logarithm is a soft
    maximum: a few large differences count as much as many small ones. The sum over the batch is in it, so
    that the value depends on the size of the batch. Classes and widths may differ.

    Reference: R. Miles and K. Mikolajczyk, Understanding the Role of the Projector in Knowledge Distillation,
    AAAI 2024, https://arxiv.org/abs/2303.11098. Beside it the authors train KD at temperature 1.

    Args:
        student_width: width of the student's embedding.
        teacher_width: width of the teacher's embedding.
        variant: ``"difference"`` or ``"correlation"``.
        power: of the differences, above 0.
        norm_eps: added to the variances, at least 0; with 0, features that do not vary in the batch become 0.
            Default: 1e-4 for ``"difference"``, 0 for ``"correlation"``.
        eps: added inside the logarithm, above 0; the authors' ImageNet form has 0, which gives minus infinity
            for equal embeddings. Default: 1e-12 for ``"difference"``, 1e-5 for ``"correlation"``.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = SimpleRecipeLoss(16, 64)
        >>> loss(torch.randn(8, 16), torch.randn(8, 64)).shape
        torch.Size([])
    """

    info = EmbeddingLoss.info.replace(
        title="SRD",
        paper="Miles and Mikolajczyk, Understanding the Role of the Projector in KD, AAAI 2024",
        learns="a projection of the student's embedding",
        minimum=None,
        batch_coupled=True,
    )

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        *,
        variant: Variant = "difference",
        power: float = 4.0,
        norm_eps: float | None = None,
        eps: float | None = None,
    ) -> None:
        super().__init__()
        check_choice(Variant, variant=variant)
        eps = {"difference": 1e-12, "correlation": 1e-5}[variant] if eps is None else eps
        norm_eps = {"difference": 1e-4, "correlation": 0.0}[variant] if norm_eps is None else norm_eps
        check_positive(power=power, eps=eps)
        check_non_negative(norm_eps=norm_eps)
        self.variant = variant
        self.power = power
        self.norm_eps = norm_eps
        self.eps = eps
        self.embed = nn.Linear(student_width, teacher_width, bias=False)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the embeddings of one batch.

        Args:
            student: (N, student_width).
            teacher: (N, teacher_width).

        Returns:
            Scalar, above ``2 log eps`` (``log eps`` for ``"correlation"``).

        Raises:
            PursuhintError: the batch sizes differ.
        """
        check_same_batch(student, teacher)
        student, teacher = gather(self.embed(student)), gather(teacher)
        own, other = (self._normalized(values) for values in (student, teacher))
        if self.variant == "difference":
            return 2 * ((own - other).abs().pow(self.power).sum() + self.eps).log()
        correlations = (own * other).mean(0)
        return ((correlations - 1).abs().pow(self.power).sum() + self.eps).log()

    def _normalized(self, values: Tensor) -> Tensor:
        """Batch norm without scale and shift, by the statistics of the batch; zeros for a single sample."""
        scale = range_scale(values, dim=0)  # so that squares of large features stay finite
        values = values * scale
        centered = values - values.mean(0)
        variance = centered.square().mean(0)
        if self.norm_eps:
            return centered * (variance + self.norm_eps * scale[0].square()).rsqrt()
        rounding = 16 * torch.finfo(values.dtype).eps * values.detach().abs().amax(0)
        varies = variance > rounding.square()
        return torch.where(varies, centered * variance.where(varies, 1.0).rsqrt(), 0.0)
