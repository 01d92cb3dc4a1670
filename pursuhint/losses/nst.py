"""Neuron selectivity transfer (Huang and Wang, 2017)."""

from __future__ import annotations

from torch import Tensor

from pursuhint.losses._parts.maps import as_maps, pool_to_smaller
from pursuhint.losses._parts.vectors import unit_length
from pursuhint.losses.base import HintLoss

__all__ = ["NeuronSelectivityLoss"]


class NeuronSelectivityLoss(HintLoss):
    r"""Ask the student's channels to be selective for the same places as the teacher's.

    With :math:`u_c` the map of a channel, flattened and scaled to unit length, the maximum mean discrepancy
    between both sets of channels under the kernel :math:`(u \cdot v)^2`,

    .. math:: L = K(t, t) + K(s, s) - 2 K(s, t), \quad
              K(x, y) = \frac{1}{b \, c_x c_y} \sum_{n=1}^{b} \sum_{c, d} (x_{nc} \cdot y_{nd})^2 ,

    summed over the pairs of hint points. Channels may differ; where sizes do, the larger map is averaged down
    first. Nothing is learned. Paper and the code of the CIFAR-100 benchmark of Tian et al. (ICLR 2020), to
    which the weight 50 belongs, agree. That code holds :math:`b \, c_s c_t h w` products in memory; here a
    sample needs the square of its positions or of its channels, whichever is fewer.

    Reference: Z. Huang and N. Wang, Like What You Like: Knowledge Distill via Neuron Selectivity Transfer,
    2017, https://arxiv.org/abs/1707.01219.

    Example:
        >>> loss = NeuronSelectivityLoss()
        >>> loss(torch.randn(8, 16, 4, 4), torch.randn(8, 64, 2, 2)).shape
        torch.Size([])
    """

    info = HintLoss.info.replace(
        title="NST",
        paper="Huang and Wang, Like What You Like: Knowledge Distill via Neuron Selectivity Transfer, 2017",
        default_weight=50.0,
    )

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the features of one hint point.

        Args:
            student: (N, C_s, H_s, W_s), or tokens (N, T, C_s).
            teacher: (N, C_t, H_t, W_t), or tokens (N, T, C_t).

        Returns:
            Scalar in [0, 2]; zero when both have the same set of channels.

        Raises:
            PursuhintError: the batch sizes differ, or the features cannot be compared.
        """
        student, teacher = pool_to_smaller(*as_maps(student, teacher))
        s, t = unit_length(student.flatten(2)), unit_length(teacher.flatten(2))
        if s.shape[2] <= max(s.shape[1], t.shape[1]):
            # K(x, y) is the inner product of the mean outer products of the channels of x and of y.
            difference = s.mT @ s / s.shape[1] - t.mT @ t / t.shape[1]
            return difference.square().sum((1, 2)).mean()
        # K(t, t) + K(s, s) - 2 K(s, t), each from the products of all channels
        return _kernel(t, t) + _kernel(s, s) - 2 * _kernel(s, t)


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """Mean over samples and pairs of channels, (N, C, positions) each."""
    return (x @ y.mT).square().mean()
