"""Attention-based feature matching (Ji, Heo and Park, 2021)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint
from pursuhint.features.pooling import MeanPooling
from pursuhint.losses._parts.maps import Size, as_maps, map_sizes, pool_to
from pursuhint.losses._parts.vectors import in_range, unit_length
from pursuhint.losses.base import HintsLoss
from pursuhint.losses.checks import check_choice, check_positive
from pursuhint.losses.context import LossContext, Network

__all__ = ["AttentionMatchingLoss"]

pool = MeanPooling()

Points = Literal["all", "plan"]


class AttentionMatchingLoss(HintsLoss):
    r"""Compare every point of the teacher with all points of the student, and learn which belong together.

    With :math:`v(f)` the mean over the channels of :math:`f^2`, flattened and scaled to unit length, and
    :math:`v_j(f_{S,i})` the same of the student's map, averaged to the size of the teacher's map :math:`j`
    before it is flattened,

    .. math:: L = \sum_j \frac{1}{b} \sum_n \sum_i \alpha_{nji} \, \frac{1}{h_j w_j}
              \lVert v_j(f_{S,i})_n - v(f_{T,j})_n \rVert_2^2 .

    The attention :math:`\alpha_{nj}` is a softmax over the student's points of

    .. math:: \big( q_{nj} \cdot W_j k_{ni} + p_{T,j} \cdot p_{S,i} \big) / \sqrt{d} ,

    with queries :math:`q` and keys :math:`k` of width :math:`d` learned from the channel means of the maps, a
    learned form :math:`W_j` for every point of the teacher, and learned positions :math:`p`. Channels and
    sizes may differ, and so may the numbers of points.

    The paper matches all sub-blocks of both networks. PURSUhInT (section 4.2.2) limits the teacher to its
    hint points and leaves the search among the student's sub-blocks as it is: this is the default here,
    because the attention over all pairs is costly for deep teachers. ``teacher_points="all"`` is the paper's
    method, and what is done without a hint plan. Sub-blocks that the plan does not name are read as it reads
    the others, pre- or post-activation; without a plan, post-activation.

    Reference: M. Ji, B. Heo and S. Park, Show, Attend and Distill: Knowledge Distillation via Attention-based
    Feature Matching, AAAI 2021, https://arxiv.org/abs/2102.02973. The weight 200 is that of the authors'
    code, which adds KD with weight 0.9 and temperature 4: ``--loss afd --loss kd=0.9 --loss ce=1``.

    Args:
        student_channels: width of the features at every point of the student, shallow to deep.
        teacher_channels: width of the features at every point of the teacher.
        attention_width: entries of a query and a key, at least 1.
        student_points: which sub-blocks of the student take part: ``"all"``, or those of the ``"plan"`` if
            there is one.
        teacher_points: the same for the teacher.

    Raises:
        PursuhintError: there are no points, or ``attention_width`` is not positive.

    Example:
        >>> loss = AttentionMatchingLoss([16, 32, 64], [64])
        >>> students = [torch.randn(8, 16, 8, 8), torch.randn(8, 32, 4, 4), torch.randn(8, 64, 2, 2)]
        >>> loss(students, [torch.randn(8, 64, 4, 4)]).shape
        torch.Size([])
    """

    info = HintsLoss.info.replace(
        title="AFD",
        paper="Ji, Heo and Park, Show, Attend and Distill, AAAI 2021",
        learns="keys, queries and positions of the attention",
        default_weight=200.0,
        points="all",
    )

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        *,
        attention_width: int = 128,
        student_points: Points = "all",
        teacher_points: Points = "plan",
    ) -> None:
        super().__init__()
        check_positive(attention_width=attention_width)
        check_choice(Points, student_points=student_points, teacher_points=teacher_points)
        if not (student_channels and teacher_channels):
            raise PursuhintError("AFD needs at least one hint point of either network")
        students, teachers = len(student_channels), len(teacher_channels)
        self.attention_width = attention_width
        self.student_points = student_points
        self.teacher_points = teacher_points
        self.student_key = nn.ModuleList(
            NormalizedLinear(channels, attention_width) for channels in student_channels
        )
        self.teacher_query = nn.ModuleList(
            NormalizedLinear(channels, attention_width) for channels in teacher_channels
        )
        self.bilinear = NormalizedLinear(attention_width, attention_width * teachers)
        self.student_position = nn.Parameter(torch.empty(students, attention_width))
        self.teacher_position = nn.Parameter(torch.empty(teachers, attention_width))
        nn.init.xavier_normal_(self.student_position)
        nn.init.xavier_normal_(self.teacher_position)

    @classmethod
    def needs_hint_plan(cls) -> bool:
        """It takes a plan where there is one."""
        return True

    @classmethod
    def choose_points(
        cls,
        pairs: Sequence[tuple[HintPoint, HintPoint]],
        candidates: Callable[[Network], Sequence[HintPoint]],
        **hyperparameters: Any,
    ) -> tuple[Sequence[HintPoint], Sequence[HintPoint]]:
        """All sub-blocks of a network, or those that a plan names, each once and in depth order."""
        options = {**cls.hyperparameters(), **hyperparameters}
        activations: tuple[tuple[Network, int], ...] = (("student", 0), ("teacher", 1))
        chosen = []
        for network, side in activations:
            if options[f"{network}_points"] == "all" or not pairs:
                chosen.append(candidates(network))
            else:
                named = dict.fromkeys(pair[side] for pair in pairs)
                chosen.append(sorted(named, key=lambda point: point.position))
        return chosen[0], chosen[1]

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """Widths of all points; maps that cannot be compared are refused here."""
        for student in context.student_shapes:
            for teacher in context.teacher_shapes:
                map_sizes(student, teacher)
        return {
            "student_channels": [shape.channels for shape in context.student_shapes],
            "teacher_channels": [shape.channels for shape in context.teacher_shapes],
        }

    def terms(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compare the features of all points.

        Args:
            students: the student's features, one tensor a point: (N, C, H, W), or tokens (N, T, C).
            teachers: the teacher's.

        Returns:
            The addend of every point of the teacher: ``hint_0``, ``hint_1``, ... Their sum is at least 0;
            zero when, up to scale, all maps of the student have the energy of those of the teacher.

        Raises:
            PursuhintError: the numbers of points or samples are wrong, maps cannot be compared, or, in
                training mode, the batch is a single sample.
        """
        if len(students) != len(self.student_key) or len(teachers) != len(self.teacher_query):
            raise PursuhintError(
                f"AFD was built for {len(self.student_key)} points of the student and "
                f"{len(self.teacher_query)} of the teacher, but got {len(students)} and {len(teachers)}"
            )
        weights = self.attention(students, teachers)
        energies = [_energy(features) for features in students]
        pooled: dict[tuple[int, Size], Tensor] = {}  # points of the teacher share sizes
        terms = {}
        for j, features in enumerate(teachers):
            distances = []
            for i, energy in enumerate(energies):
                own, target = as_maps(energy, _energy(features))
                size = target.shape[2], target.shape[3]
                key = (i, size)
                if key not in pooled:
                    pooled[key] = unit_length(pool_to(own, size).flatten(1), ranged=True)
                target = unit_length(target.flatten(1), ranged=True)
                distances.append((pooled[key] - target).square().mean(1))
            terms[f"hint_{j}"] = (weights[:, j] * torch.stack(distances, 1)).sum(1).mean()
        return terms

    def attention(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
        """Attention of every point of the teacher over the points of the student.

        Args:
            students: as in `forward`.
            teachers: as in `forward`.

        Returns:
            (N, points of the teacher, points of the student); sums to 1 over the last axis.
        """
        keys = torch.stack(
            [torch.relu(key(pool(features))) for key, features in zip(self.student_key, students)], 1
        )
        queries = torch.stack(
            [query(pool(features)) for query, features in zip(self.teacher_query, teachers)], 1
        )
        forms = self.bilinear(keys.flatten(0, 1)).unflatten(1, (len(teachers), self.attention_width))
        forms = forms.unflatten(0, (-1, len(students)))  # (N, student points, teacher points, width)
        scores = torch.einsum("nijd,njd->nji", forms, queries)
        scores = scores + self.teacher_position @ self.student_position.T
        return torch.softmax(scores / math.sqrt(self.attention_width), dim=2)


class NormalizedLinear(nn.Module):
    """A linear layer and a batch norm.

    Args:
        width_in: entries of a vector that come in.
        width_out: entries that go out.
    """

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width_in, width_out)
        self.bn = nn.BatchNorm1d(width_out)

    def forward(self, vectors: Tensor) -> Tensor:
        """Map (N, width_in) to (N, width_out).

        Raises:
            PursuhintError: in training mode, a single vector, which batch norm cannot normalise.
        """
        if self.bn.training and len(vectors) == 1:
            raise PursuhintError(
                "AFD normalises over the batch and cannot learn from a batch of one sample; "
                "use a larger batch, or drop the incomplete last one"
            )
        output: Tensor = self.bn(self.linear(vectors))
        return output


def _energy(features: Tensor) -> Tensor:
    """Mean of the squares over the channels, kept as a single channel; up to a common factor."""
    return in_range(features).square().mean(2 if features.ndim == 3 else 1, keepdim=True)
