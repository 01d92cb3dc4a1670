"""Wasserstein distance of the last maps as normal distributions: WKD-F (Lv, Yang and Li, 2024)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from pursuhint.losses._parts.connectors import ConvRegressor
from pursuhint.losses._parts.maps import Size, as_maps
from pursuhint.losses._parts.vectors import lengths
from pursuhint.losses.base import HintLoss
from pursuhint.losses.checks import check_non_negative, check_positive

__all__ = ["NormalDistanceLoss"]


class NormalDistanceLoss(HintLoss):
    r"""Compare mean and deviation over space of every channel of the teacher with the student's.

    With the student's last map brought to the teacher's width and size by a convolution, batch norm and ReLU,
    and both maps seen as normal distributions over positions with a diagonal covariance, their squared
    Wasserstein distance is that of means :math:`\mu` and deviations :math:`\sigma`:

    .. math:: L = \frac1b \sum_i \rho \, \lVert \mu_S - \mu_T \rVert_2^2
              + \lVert \sigma_S - \sigma_T \rVert_2^2 , \quad \sigma = \sqrt{\mathrm{var} + \epsilon} .

    Variances have the denominator H W - 1. From an epoch on the loss fades along half a cosine and is zero in
    the last epoch. With a ``grid`` the map is cut into regions, each with a distribution of its own, over
    which the distance is averaged. Widths and sizes may differ.

    Reference: J. Lv, H. Yang and P. Li, Wasserstein Distance Rivals Kullback-Leibler Divergence for Knowledge
    Distillation, NeurIPS 2024, https://arxiv.org/abs/2412.08139. Settings are those of the authors' code for
    resnet32x4 -> resnet8x4 on CIFAR-100.

    Args:
        student_channels: width of the student's features.
        teacher_channels: width of the teacher's features.
        student_size: height and width of the student's maps.
        teacher_size: height and width of the teacher's maps.
        mean_weight: :math:`\rho`, at least 0.
        grid: regions along height and along width, at least 1.
        constant_epochs: epochs before the loss fades; it does not fade in a run that is not longer.
        eps: added to the variances, above 0.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = NormalDistanceLoss(16, 64, (4, 4), (2, 2))
        >>> loss(torch.randn(8, 16, 4, 4), torch.randn(8, 64, 2, 2)).shape
        torch.Size([])
    """

    info = HintLoss.info.replace(
        title="WKD-F",
        paper="Lv, Yang and Li, Wasserstein Distance Rivals KL Divergence for KD, NeurIPS 2024",
        learns="a convolution to the teacher's width",
        default_weight=0.08,
        points="last-map",
    )

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        student_size: Size,
        teacher_size: Size,
        *,
        mean_weight: float = 4.0,
        grid: int = 1,
        constant_epochs: int = 150,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        check_positive(grid=grid, eps=eps)
        check_non_negative(mean_weight=mean_weight, constant_epochs=constant_epochs)
        self.mean_weight = mean_weight
        self.grid = grid
        self.constant_epochs = constant_epochs
        self.eps = eps
        self.factor = 1.0
        self.connector = ConvRegressor(student_channels, teacher_channels, student_size, teacher_size)

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Fade along half a cosine in the epochs after ``constant_epochs``."""
        fading = epoch + 1 - self.constant_epochs
        left = epochs - self.constant_epochs
        self.factor = 0.5 * (1 + math.cos(math.pi * fading / left)) if 0 < fading <= left else 1.0

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare the features of one hint point.

        Args:
            student: (N, C_s, H_s, W_s), or tokens (N, T, C_s).
            teacher: (N, C_t, H_t, W_t), or tokens (N, T, C_t).

        Returns:
            Scalar, at least 0; zero when means and deviations agree.

        Raises:
            PursuhintError: the batch sizes differ, or a batch is too small for batch norm.
        """
        student, teacher = as_maps(student, teacher)
        regions = list(zip(self._regions(self.connector(student)), self._regions(teacher)))
        total = torch.stack([self._distance(own, other) for own, other in regions]).sum()
        return self.factor * total / (len(regions) * len(student))

    def _regions(self, maps: Tensor) -> list[Tensor]:
        """The regions of maps, each (N, C, positions); those of adaptive pooling, which may overlap."""

        def bounds(size: int) -> list[slice]:
            return [
                slice(index * size // self.grid, -(-(index + 1) * size // self.grid))
                for index in range(self.grid)
            ]

        rows, columns = (bounds(size) for size in maps.shape[2:])
        return [maps[:, :, row, column].flatten(2) for row in rows for column in columns]

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Squared distance of the distributions of one region, summed over the batch."""
        (own, own_deviation), (other, other_deviation) = self._moments(student), self._moments(teacher)
        means = (own - other).square().sum()
        return self.mean_weight * means + (own_deviation - other_deviation).square().sum()

    def _moments(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Means and deviations over positions, (N, C) each; also of values whose squares would overflow."""
        mean = values.mean(2, keepdim=True)
        deviation = lengths(values - mean, dim=2)[:, :, 0] / math.sqrt(max(values.shape[2] - 1, 1))
        return mean[:, :, 0], torch.hypot(deviation, deviation.new_tensor(math.sqrt(self.eps)))
