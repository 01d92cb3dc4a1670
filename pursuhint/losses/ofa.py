"""One-for-all distillation between networks of different kinds (Hao et al., 2023)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import (
    HintPoint,
    even_points,
    number_of_stages,
    resolve_point,
    stage_ends,
)
from pursuhint.losses._parts.connectors import check_can_normalize
from pursuhint.losses.base import LogitLoss
from pursuhint.losses.checks import (
    check_positive,
    check_same_classes,
    check_teacher_classifies,
    different_classes,
)
from pursuhint.losses.context import LossContext, Network

__all__ = ["OneForAllLoss"]

_PARTS = 4
"""Equal parts of a student of one resolution, as of one with as many stages."""


class OneForAllLoss(LogitLoss):
    r"""Ask the student for the teacher's logits at its end and at exits behind its stages.

    An exit brings the features of a stage to logits: convolutions of stride 2 down to the size of the last
    stage, the mean over positions, and a classifier; for tokens, the mean and a classifier alone, where the
    authors put transformer blocks. The stages are the student's own, whatever the teacher's are. Only logits
    are compared, so that teacher and student may be of any two kinds (a transformer teaches a CNN). For the
    logits of each exit and of the student, with the probabilities :math:`p` of the teacher, :math:`q` of the
    student, and the label :math:`y`,

    .. math:: \ell = - \frac1b \sum_i \sum_k \big[ (p_{ik} + 1_{k = y})^\gamma - 1_{k = y} \big]
              \log q_{ik} , \quad L = \ell_{\text{student}} + \sum_e \ell_e .

    The power above 1 lets the label count more the surer the teacher is of it, since what a teacher of
    another kind says about the other classes is worth less. Exits are trained along with the student and not
    needed afterwards. Teacher and student need the same classes; features of the teacher are not looked at.

    Reference: Z. Hao, J. Guo, K. Han, Y. Tang, H. Hu, Y. Wang and C. Xu, One-for-All: Bridge the Gap Between
    Heterogeneous Architectures in Knowledge Distillation, NeurIPS 2023, https://arxiv.org/abs/2310.19444. Its
    powers are between 1 and 1.5, by pair; the authors' code compares the student's own logits with 1.

    Args:
        exits: (channels, height and width) of the student's features at every exit; none for the student's
            own logits alone. Tokens have their number instead of height and width.
        num_classes: number of logits.
        gamma: the power of the exits, above 0.
        final_gamma: the power of the student's own logits; None for ``gamma``.
        temperature: divides all logits, above 0.
        exit_points: module names or positions of the student's sub-blocks that have an exit, at least one;
            None for the ends of its resolution stages, or of four equal parts of a network of one resolution.

    Raises:
        PursuhintError: a value is out of its range.

    Example:
        >>> loss = OneForAllLoss([(16, (8, 8)), (32, (4, 4))], 10)
        >>> maps = [torch.randn(8, 16, 8, 8), torch.randn(8, 32, 4, 4)]
        >>> loss(torch.randn(8, 10), torch.randn(8, 10), torch.arange(8), maps).shape
        torch.Size([])
    """

    info = LogitLoss.info.replace(
        title="OFA",
        paper="Hao et al., One-for-All: Bridge the Gap Between Heterogeneous Architectures, NeurIPS 2023",
        learns="an exit behind every stage of the student",
        inputs=("student_logits", "teacher_logits", "labels", "student_maps"),
        minimum=None,
        softens_logits=True,
    )

    def __init__(
        self,
        exits: Sequence[tuple[int, tuple[int, ...]]],
        num_classes: int,
        *,
        gamma: float = 1.0,
        final_gamma: float | None = None,
        temperature: float = 1.0,
        exit_points: tuple[str | int, ...] | None = None,
    ) -> None:
        super().__init__()
        final_gamma = gamma if final_gamma is None else final_gamma
        check_positive(gamma=gamma, final_gamma=final_gamma, temperature=temperature)
        self.gamma = gamma
        self.final_gamma = final_gamma
        self.temperature = temperature
        self.exit_points = exit_points
        self.exits = nn.ModuleList(
            Exit(channels, _halvings(size, exits[-1][1]), num_classes) for channels, size in exits
        )

    @classmethod
    def needs_hint_plan(cls) -> bool:
        """Its points are the student's alone, and a plan has those that the teacher teaches."""
        return False

    @classmethod
    def looks_at(cls, hyperparameters: Mapping[str, Any]) -> str:
        """The ends of the student's stages, or the sub-blocks that are named."""
        named = hyperparameters.get("exit_points")
        return cls.info.taps if named is None else f"the student's sub-blocks {', '.join(map(str, named))}"

    @classmethod
    def choose_points(
        cls,
        pairs: Sequence[tuple[HintPoint, HintPoint]],
        candidates: Callable[[Network], Sequence[HintPoint]],
        **hyperparameters: Any,
    ) -> tuple[Sequence[HintPoint], Sequence[HintPoint]]:
        """The student's points with an exit, in depth order; none of the teacher."""
        points, names = candidates("student"), hyperparameters.get("exit_points")
        if names is None:
            if number_of_stages(points) > 1:
                return stage_ends(points), ()
            return even_points(points, min(_PARTS, len(points))), ()
        named = {resolve_point(points, name) for name in names}
        return sorted(named, key=lambda point: point.position), ()

    @classmethod
    def check_context(cls, context: LossContext) -> None:
        """The student alone has hint points."""
        if not context.student_shapes:
            raise PursuhintError(
                "OFA puts exits behind sub-blocks of the student, but there are none; name some (exit_points)"
            )
        if context.teacher_classes not in (None, context.num_classes):
            check_teacher_classifies(cls.info.title, context)
            raise PursuhintError(
                different_classes(cls.info.title, context.teacher_classes, context.num_classes)
            )

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """Shapes of the student's features, and the number of classes."""
        return {
            "exits": [(shape.channels, shape.spatial) for shape in context.student_shapes],
            "num_classes": context.num_classes,
        }

    def terms(
        self, student: Tensor, teacher: Tensor, labels: Tensor, students: Sequence[Tensor] = ()
    ) -> dict[str, Tensor]:
        """Compare the logits of one batch.

        Args:
            student: (N, classes).
            teacher: (N, classes).
            labels: class numbers, (N,).
            students: the student's features at the exits, (N, C, H, W) or tokens (N, T, C).

        Returns:
            The addends: ``final``, ``exit_0``, ``exit_1``, ... Each is at least 0.

        Raises:
            PursuhintError: the numbers of samples or classes differ, or a batch is too small for batch norm.
        """
        check_same_classes(self.info.title, student, teacher)
        values = {"final": self._compared(student, teacher, labels, self.final_gamma)}
        for number, (exit_, features) in enumerate(zip(self.exits, students, strict=True)):
            values[f"exit_{number}"] = self._compared(exit_(features), teacher, labels, self.gamma)
        return values

    def _compared(self, student: Tensor, teacher: Tensor, labels: Tensor, gamma: float) -> Tensor:
        target = F.one_hot(labels, student.shape[1]).to(student.dtype)
        probabilities = (teacher / self.temperature).softmax(1)
        weights = (probabilities + target).pow(gamma) - target
        return -(weights * F.log_softmax(student / self.temperature, dim=1)).sum(1).mean()


class Exit(nn.Module):
    """Logits of the features of one stage.

    Args:
        channels: of the features.
        halvings: how many convolutions of stride 2, each of which doubles the channels.
        num_classes: number of logits.
    """

    def __init__(self, channels: int, halvings: int, num_classes: int) -> None:
        super().__init__()
        blocks: list[nn.Module] = []
        for _ in range(halvings):
            blocks += [
                nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False),
                nn.Conv2d(channels, 2 * channels, 1, bias=False),
                nn.BatchNorm2d(2 * channels),
                nn.ReLU(),
            ]
            channels *= 2
        self.blocks = nn.Sequential(*blocks)
        self.classifier = nn.Linear(channels, num_classes)

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C, H, W), tokens (N, T, C) or vectors (N, C) to (N, classes)."""
        if features.ndim == 4:
            for block in self.blocks:
                if isinstance(block, nn.BatchNorm2d):
                    check_can_normalize(features, block)
                features = block(features)
            features = features.mean((2, 3))
        elif features.ndim == 3:
            features = features.mean(1)
        logits: Tensor = self.classifier(features)
        return logits


def _halvings(size: tuple[int, ...], last: tuple[int, ...]) -> int:
    """How often a map is halved until it is no larger than the last one; tokens and vectors never."""
    count = 0
    while len(size) == len(last) == 2 and any(own > other for own, other in zip(size, last)):
        size = tuple((side + 1) // 2 for side in size)
        count += 1
    return count
