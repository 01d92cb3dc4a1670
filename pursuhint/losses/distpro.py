"""DistPro: distillation along weighted pathways (Deng et al., 2022)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.connectors import check_can_normalize
from pursuhint.losses._parts.maps import Size, as_maps, map_sizes, pool_to
from pursuhint.losses.base import HintsLoss
from pursuhint.losses.checks import check_choice, check_non_negative, check_same_batch
from pursuhint.losses.context import FeatureShape, LossContext

__all__ = ["PathwayLoss", "pathway_weights"]

PathwayWeighting = Literal[
    "constant",
    "softmax",
    "biased_softmax",
    "sigmoid",
    "absolute",
    "share",
    "bounded_share",
    "scaled_biased_softmax",
]


def pathway_weights(alpha: Tensor, weighting: PathwayWeighting, kd_weight: float = 1.0) -> Tensor:
    r"""Weights of the pathways from the numbers that the search learns.

    Args:
        alpha: one number a pathway, (P,).
        weighting: how:

            - ``"constant"``: ``kd_weight`` for all;
            - ``"softmax"``;
            - ``"biased_softmax"``: with one more, constant entry of 1, whose share is discarded;
            - ``"sigmoid"``;
            - ``"absolute"``: :math:`|\alpha|`;
            - ``"share"``: :math:`3 |\alpha| / \sum |\alpha|`;
            - ``"bounded_share"``: :math:`10 |\alpha| / (1 + \sum |\alpha|)`;
            - ``"scaled_biased_softmax"``: the biased softmax times P times ``kd_weight``.
        kd_weight: for the first and the last.

    Returns:
        (P,), not negative.
    """
    check_choice(PathwayWeighting, weighting=weighting)
    if weighting == "constant":
        return torch.full_like(alpha, kd_weight)
    if weighting == "softmax":
        return alpha.softmax(0)
    if weighting == "sigmoid":
        return alpha.sigmoid()
    if weighting in ("biased_softmax", "scaled_biased_softmax"):
        # the constant entry lets all pathways together have less than the full weight
        shares = torch.cat([alpha, torch.ones_like(alpha[:1])]).softmax(0)[:-1]
        return shares if weighting == "biased_softmax" else shares * len(alpha) * kd_weight
    magnitudes = alpha.abs()
    if weighting == "absolute":
        return magnitudes
    if weighting == "share":
        return 3 * magnitudes / magnitudes.sum().clamp(min=torch.finfo(magnitudes.dtype).tiny)
    return 10 * magnitudes / (1 + magnitudes.sum())


def pyramid_loss(first: Tensor, second: Tensor) -> Tensor:
    """Mean squared error of two maps and of their averages over 4 x 4, 2 x 2 and 1 x 1 regions.

    The weights are 1, 1/2, 1/4 and 1/8, over the sizes that are below the height of the maps, divided by
    their sum.

    Args:
        first: (N, C, H, W).
        second: the same shape.
    """
    total, weight, weights = F.mse_loss(first, second), 1.0, 1.0
    for size in (4, 2, 1):
        if size < first.shape[2]:
            weight /= 2
            weights += weight
            total = total + weight * F.mse_loss(pool_to(first, (size, size)), pool_to(second, (size, size)))
    return total / weights


class PathwayLoss(HintsLoss):
    r"""Let every teacher layer teach the student's layers at its depth and deeper, each as much as it should.

    A pathway leads from the teacher's layer :math:`i` to the student's layer :math:`j \ge i`. With
    :math:`C` its learned connector, :math:`\ell` the `pyramid_loss` and :math:`w(\alpha)` weights
    (`pathway_weights`),

    .. math:: L = \sum_p w_p(\alpha) \, \ell(C_p(f^S_{j_p}), f^T_{i_p}) .

    What :math:`\alpha` should be, and how it should change in the course of the training, is found by a
    search (``pursuhint pathways``, in Python `pursuhint.study.pathway_search` for a recipe and
    `pursuhint.distillation.meta_gradient` for anything else), which gives one row of it an epoch: the
    ``process``. The training goes through it in proportion, with linear interpolation between rows, or in
    steps without ``interpolate``. The authors' code lacks this step. Without a process :math:`\alpha` is 1
    throughout. It is never trained together with the student, which would only find the easiest pathways.

    Features are those before the activation (choose the hint points so); the authors take four points.
    Widths and sizes may differ: a connector resizes to the teacher's map. The search weighs with
    ``"softmax"``, the training with ``"scaled_biased_softmax"``.

    Reference: X. Deng, D. Sun, S. Newsam and P. Wang, DistPro: Searching a Fast Knowledge Distillation
    Process via Meta Optimization, ECCV 2022, https://arxiv.org/abs/2204.05547.

    Args:
        students: shapes of the student's features, shallow to deep.
        teachers: shapes of the teacher's.
        pathways: (layer of the teacher, layer of the student) from 0, in the order of :math:`\alpha`; None
            for all with the student's layer at least as deep.
        weighting: how weights follow from :math:`\alpha`, see `pathway_weights`.
        kd_weight: a factor of some of these, at least 0.
        process: :math:`\alpha` of every epoch of a search, (epochs, pathways).
        interpolate: whether to go linearly from row to row; otherwise each row holds for its share of the
            epochs.

    Raises:
        PursuhintError: a pathway leads nowhere, or the process does not fit the pathways.

    Example:
        >>> shapes = [FeatureShape(16, (8, 8)), FeatureShape(32, (4, 4))]
        >>> features = [torch.randn(4, 16, 8, 8), torch.randn(4, 32, 4, 4)]
        >>> PathwayLoss(shapes, shapes)(features, features).shape
        torch.Size([])
    """

    info = HintsLoss.info.replace(
        title="DistPro",
        paper="Deng et al., DistPro: Searching a Fast KD Process via Meta Optimization, ECCV 2022",
        learns="a connector for every pathway",
        activation="pre",
    )

    def __init__(
        self,
        students: Sequence[FeatureShape],
        teachers: Sequence[FeatureShape],
        *,
        pathways: tuple[tuple[int, int], ...] | None = None,
        weighting: PathwayWeighting = "scaled_biased_softmax",
        kd_weight: float = 1.0,
        process: tuple[tuple[float, ...], ...] | None = None,
        interpolate: bool = True,
    ) -> None:
        super().__init__()
        check_choice(PathwayWeighting, weighting=weighting)
        check_non_negative(kd_weight=kd_weight)
        if pathways is None:
            pathways = tuple((i, j) for i in range(len(teachers)) for j in range(i, len(students)))
        if not pathways:
            raise PursuhintError("there is no pathway from a teacher's layer to a student's")
        self.pathways = tuple((int(i), int(j)) for i, j in pathways)
        self.weighting = weighting
        self.kd_weight = kd_weight
        self.interpolate = interpolate
        if process is not None and {len(row) for row in process} != {len(pathways)}:
            raise PursuhintError(
                f"every row of the process must have one number for each of the {len(pathways)} pathways, "
                f"got rows of {sorted({len(row) for row in process})}"
            )
        self.process = None if process is None else torch.tensor(process, dtype=torch.float64)
        self.alpha = nn.Parameter(torch.ones(len(pathways)), requires_grad=False)
        self.connectors = nn.ModuleDict()
        for i, j in self.pathways:
            if not (0 <= i < len(teachers) and 0 <= j < len(students)):
                raise PursuhintError(
                    f"pathway ({i}, {j}) does not lead from one of {len(teachers)} layers of the teacher to "
                    f"one of {len(students)} of the student"
                )
            _, size = map_sizes(students[j], teachers[i])
            self.connectors[f"t{i}_s{j}"] = _Connector(students[j].channels, teachers[i].channels, size)

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """Shapes at all hint points."""
        return {"students": context.student_shapes, "teachers": context.teacher_shapes}

    @torch.no_grad()
    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Set alpha to the process at this epoch."""
        if self.process is None:
            return
        if not self.interpolate:
            self.alpha.copy_(self.process[min(epoch * len(self.process) // epochs, len(self.process) - 1)])
            return
        # The first and last epochs take the first and last rows; between them alpha is interpolated.
        place = epoch * (len(self.process) - 1) / max(1, epochs - 1)
        row = min(int(place), max(0, len(self.process) - 2))
        following = self.process[min(row + 1, len(self.process) - 1)]
        self.alpha.copy_(torch.lerp(self.process[row], following, place - row))

    def shares(self) -> Tensor:
        """The present weights of the pathways, (P,)."""
        return pathway_weights(self.alpha, self.weighting, self.kd_weight)

    def terms(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compare the features of all layers.

        Args:
            students: (N, C, H, W) or tokens (N, T, C), one a layer.
            teachers: features of the teacher, in the same layout.

        Returns:
            The weighted addend of every pathway: ``t0_s0``, ``t0_s1``, ... Their sum is at least 0.

        Raises:
            PursuhintError: the batch sizes differ, or a batch is too small for batch norm.
        """
        return {
            name: weight * difference
            for weight, (name, difference) in zip(self.shares(), self.differences(students, teachers).items())
        }

    def differences(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> dict[str, Tensor]:
        """The pyramid loss of every pathway; takes what `forward` takes."""
        found = {}
        for i, j in self.pathways:
            check_same_batch(students[j], teachers[i])
            student, teacher = as_maps(students[j], teachers[i])
            found[f"t{i}_s{j}"] = pyramid_loss(self.connectors[f"t{i}_s{j}"](student), teacher)
        return found


class _Connector(nn.Module):
    """A gated network from the student's map to the teacher's width and size."""

    def __init__(self, student_channels: int, teacher_channels: int, size: Size) -> None:
        super().__init__()
        width = min(512, teacher_channels, student_channels)
        self.size = size
        self.conv1 = _conv3x3(student_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.gate = nn.Conv2d(width, 1, kernel_size=1, bias=False)
        self.conv2 = _conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = _conv3x3(width, teacher_channels)
        self.bn3 = nn.BatchNorm2d(teacher_channels)
        nn.init.normal_(self.gate.weight, std=math.sqrt(2))

    def forward(self, features: Tensor) -> Tensor:
        features = self.conv1(features)
        check_can_normalize(features, self.bn1)
        features = torch.relu(self.bn1(features))
        features = torch.relu(self.bn2(self.conv2(features * self.gate(features))))  # one gate per position
        if features.shape[2:] != self.size:
            features = F.interpolate(features, self.size, mode="nearest")
        features = self.conv3(features)
        check_can_normalize(features, self.bn3)
        output: Tensor = self.bn3(features)
        return output


def _conv3x3(channels_in: int, channels_out: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer
