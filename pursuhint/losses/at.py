"""Attention transfer (Zagoruyko and Komodakis, 2017)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from pursuhint.losses._parts.maps import as_maps, pool_to_smaller
from pursuhint.losses._parts.vectors import in_range, unit_length
from pursuhint.losses.base import HintLoss
from pursuhint.losses.checks import check_choice, check_positive

__all__ = ["AttentionTransferLoss"]

Distance = Literal["mean-square", "euclidean"]


def attention_map(features: Tensor, p: int = 2, *, absolute: bool = False) -> Tensor:
    """Where a layer is active, whatever its channels mean.

    Args:
        features: (N, C, H, W).
        p: exponent, at least 1.
        absolute: take absolute values first; matters for odd exponents and signed features.

    Returns:
        (N, H * W): mean over the channels of ``features ** p``, of unit length per sample. A sample that is
        zero everywhere gives zeros, and gets no gradient.
    """
    features = in_range(features, power=p)
    if p == 2:
        energy: Tensor = _Energy.apply(features)
        powers = energy / features.shape[1]
    else:
        powers = (features.abs() if absolute else features).pow(p).mean(1)
    return unit_length(powers.flatten(1), ranged=True)


class _Energy(torch.autograd.Function):
    """``features.square().sum(1)`` without the squares in memory, and with a gradient laid out as they are.

    What autograd makes of that line has the channels outermost, whatever the features have.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        return torch.linalg.vector_norm(features, dim=1).square()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (features,) = ctx.saved_tensors
        return features * (2 * gradients[0]).unsqueeze(1)  # in this order: the first one's layout is kept


class AttentionTransferLoss(HintLoss):
    r"""Ask the student to look where the teacher looks.

    With :math:`a(f)` the mean of :math:`f^p` over the channels, flattened and scaled to unit length,

    .. math:: L = \frac{1}{b h w} \lVert a(f_S) - a(f_T) \rVert_2^2 ,

    summed over the pairs of hint points. Channels may differ; where sizes do, the larger map is averaged down
    first (adaptive average pooling). Nothing is learned.

    This is the form of the CIFAR-100 benchmark of Tian et al. (ICLR 2020), to which the weight 1000 belongs;
    it is the default because published comparisons use it. The paper's formula has half the Euclidean
    distance, neither squared nor averaged over positions, which ``distance="euclidean"`` averages over the
    samples; its weight is 1000 divided by the number of positions. It takes absolute values, too, which the
    benchmark leaves out (``absolute``; both agree for even exponents).

    Reference: S. Zagoruyko and N. Komodakis, Paying More Attention to Attention: Improving the Performance of
    Convolutional Neural Networks via Attention Transfer, ICLR 2017, https://arxiv.org/abs/1612.03928.

    Args:
        p: exponent, a whole number of at least 1.
        absolute: use :math:`|f|^p`, as the paper writes; matters for odd ``p`` and signed features.
        distance: ``"mean-square"`` over positions and samples, or half the ``"euclidean"`` distance of the
            maps of a sample, averaged over samples.

    Raises:
        PursuhintError: ``p`` is not positive, or ``distance`` neither of these.

    Example:
        >>> loss = AttentionTransferLoss()
        >>> loss(torch.randn(8, 16, 4, 4), torch.randn(8, 64, 2, 2)).shape
        torch.Size([])
    """

    info = HintLoss.info.replace(
        title="AT",
        paper="Zagoruyko and Komodakis, Paying More Attention to Attention, ICLR 2017",
        default_weight=1000.0,
    )

    def __init__(self, *, p: int = 2, absolute: bool = False, distance: Distance = "mean-square") -> None:
        super().__init__()
        check_positive(p=p)
        check_choice(Distance, distance=distance)
        self.p = p
        self.absolute = absolute
        self.distance = distance

    @classmethod
    def reads_energy(cls, hyperparameters: Mapping[str, Any]) -> bool:
        """Attention maps of exponent 2 do, unless the teacher's map is averaged down first."""
        return hyperparameters.get("p", 2) == 2

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the features of one hint point.

        Args:
            student: (N, C_s, H_s, W_s), or tokens (N, T, C_s).
            teacher: (N, C_t, H_t, W_t), or tokens (N, T, C_t).

        Returns:
            Scalar in [0, 4 / (H * W)], or in [0, 1] for Euclidean distances; zero when both maps of attention
            agree.

        Raises:
            PursuhintError: the batch sizes differ, or the features cannot be compared.
        """
        student, teacher = pool_to_smaller(*as_maps(student, teacher))
        difference = attention_map(student, self.p, absolute=self.absolute) - attention_map(
            teacher, self.p, absolute=self.absolute
        )
        if self.distance == "euclidean":
            return torch.linalg.vector_norm(difference, dim=1).mean() / 2
        return difference.square().mean()
