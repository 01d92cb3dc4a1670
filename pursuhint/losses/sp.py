"""Similarity-preserving distillation (Tung and Mori, 2019)."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional as F

from pursuhint._util.distributed import gather
from pursuhint.losses._parts.vectors import in_range, unit_length
from pursuhint.losses.base import HintLoss
from pursuhint.losses.checks import check_same_batch
from pursuhint.losses.context import FeatureShape

__all__ = ["SimilarityPreservingLoss"]


class SimilarityPreservingLoss(HintLoss):
    r"""Ask the student to find the same samples similar as the teacher does.

    With :math:`Q` the flattened features of a batch of :math:`b` samples and :math:`G` the rows of
    :math:`Q Q^\top` scaled to unit length,

    .. math:: L = \frac{1}{b^2} \lVert G_T - G_S \rVert_F^2 ,

    summed over the pairs of hint points. Channels and sizes may differ. Nothing is learned. The paper and the
    code of the CIFAR-100 benchmark of Tian et al. (ICLR 2020), which uses the last feature maps and the
    weight 3000, agree. There a sample whose features are all zero gets a gradient of about
    :math:`10^{12}`; here it gets none.

    The samples of all ranks are compared with one another. A batch of one gives 0.

    Reference: F. Tung and G. Mori, Similarity-Preserving Knowledge Distillation, ICCV 2019,
    https://arxiv.org/abs/1907.09682.

    Example:
        >>> loss = SimilarityPreservingLoss()
        >>> loss(torch.randn(8, 16, 4, 4), torch.randn(8, 64, 2, 2)).shape
        torch.Size([])
    """

    info = HintLoss.info.replace(
        title="SP",
        paper="Tung and Mori, Similarity-Preserving Knowledge Distillation, ICCV 2019",
        default_weight=3000.0,
        batch_coupled=True,
        points="last-map",
    )

    @classmethod
    def pair_arguments(cls, student: FeatureShape, teacher: FeatureShape) -> dict[str, Any]:
        """None: features of any two shapes can be compared."""
        return {}

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the features of one hint point.

        Args:
            student: (N, ...).
            teacher: (N, ...).

        Returns:
            Scalar in [0, 4 / N]; zero when both networks have equal similarities.

        Raises:
            PursuhintError: the batch sizes differ.
        """
        check_same_batch(student, teacher)
        # the mean over b^2 entries is the squared Frobenius norm over b^2
        return F.mse_loss(_similarity(student), _similarity(teacher))


def _similarity(features: Tensor) -> Tensor:
    """Row-normalised Gram matrix, (N, N)."""
    # G = Q Q^T, then every row scaled to unit length. A common scale of Q cancels.
    flat = in_range(gather(features.flatten(1)))
    return unit_length(flat @ flat.T, ranged=True)
