"""Distilling knowledge via knowledge review (Chen et al., 2021)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.maps import Size, as_maps, pool_to
from pursuhint.losses._parts.ramp import LinearRamp
from pursuhint.losses.base import HintsLoss
from pursuhint.losses.checks import check_choice, check_positive
from pursuhint.losses.context import LossContext

__all__ = ["KnowledgeReviewLoss"]

Fusion = Literal["attention", "sum"]
ResidualOutput = Literal["fused", "output"]
Distance = Literal["hcl", "l2"]


class KnowledgeReviewLoss(HintsLoss):
    r"""Guide every hint point of the student by the teacher's, reviewing what its deeper points know.

    The student's hint points :math:`j = 1, ..., n` are fused from deep to shallow,

    .. math:: x_j = \mathrm{fuse}_j \big( \mathrm{conv}_{1 \times 1}(f_{S,j}), x_{j+1} \big), \quad
              L = \sum_j D \big( \mathrm{conv}_{3 \times 3}(x_j), f_{T,j} \big) ,

    each convolution followed by batch norm. The fusion weighs both maps by an attention map each, a sigmoid
    of a 1x1 convolution of the two, and adds them; :math:`D` is the hierarchical context loss
    (`ContextDistance`). The embeddings of both networks are the deepest point, as maps of one position.
    Channels and sizes may differ: maps take the size of the shallower one, and in the end that of the
    teacher's, from the nearest neighbour.

    What Verma et al. (ReScience, 2022) switch off and change is an option each:

    - ``review=False``: every point is compared with the teacher's of the same level, on its own.
    - ``residual=False``: review without fusion. Every point of the student is compared with the teacher's of
      its own and all shallower levels, by a transformation for each: the basic form of figure 1.
    - ``fusion="sum"``: maps are added without attention.
    - ``distance="l2"``: the mean squared difference alone.
    - ``levels`` and ``level_weights`` of the hierarchical context loss. (The report mentions max-pooling in
      brackets; the authors' code averages, and so does this.)
    - ``residual_output="output"``: what is passed on to the next shallower level is the map that is compared
      with the teacher's, as in the paper's figure 3, brought to the width of the fusion by a 1x1 convolution
      with batch norm. By default it is the fused map in front of the last convolution, as in the code.

    To train without cross-entropy, give that the weight 0.

    Reference: P. Chen, S. Liu, H. Zhao and J. Jia, Distilling Knowledge via Knowledge Review, CVPR 2021,
    https://arxiv.org/abs/2104.09044. The paper takes pre-activation hints. Its weight is 5 for most pairs of
    CIFAR-100, and for resnet20 0.6, resnet32 1, ShuffleNetV2 8. It grows to this over 20 epochs; the
    authors' code leaves the first of them without distillation, mdistiller counts it as 1, as is done here.

    Args:
        student_channels: width of the student's features at every hint point, shallow to deep.
        teacher_channels: width of the features at every point of the teacher.
        student_embedding: width of the student's embedding.
        teacher_embedding: width of the teacher's embedding.
        embedding: add the embeddings as the deepest level.
        review: let deeper points of the student take part in shallower levels.
        residual: fuse them level by level; matters with ``review``.
        fusion: ``"attention"`` or ``"sum"``; matters with ``residual``.
        residual_output: ``"fused"`` or ``"output"``, what a level passes on; matters with ``residual``.
        distance: ``"hcl"``, the hierarchical context loss, or ``"l2"``.
        levels: sizes to which the maps are averaged in the hierarchical context loss, see `ContextDistance`.
        level_weights: weight of each level, positive.
        mid_channels: width of the fusion; None for that of the student's deepest point, at most 512.
        ramp_epochs: epochs over which the loss grows to its full weight; 0 for none.
        ramp_start: number that the first epoch counts as, 1 or (the authors' code) 0.

    Raises:
        PursuhintError: numbers of points differ, or an option is out of its range.

    Example:
        >>> loss = KnowledgeReviewLoss([16, 32], [64, 128], 32, 128)
        >>> students = [torch.randn(8, 16, 8, 8), torch.randn(8, 32, 4, 4)]
        >>> teachers = [torch.randn(8, 64, 8, 8), torch.randn(8, 128, 4, 4)]
        >>> loss(students, teachers, torch.randn(8, 32), torch.randn(8, 128)).shape
        torch.Size([])
    """

    info = HintsLoss.info.replace(
        title="ReviewKD",
        paper="Chen et al., Distilling Knowledge via Knowledge Review, CVPR 2021",
        learns="the blocks that fuse deep and shallow features",
        default_weight=5.0,
        inputs=(*HintsLoss.info.inputs, "student_embedding", "teacher_embedding"),
        activation="pre",
        only_with=(
            ("residual", "review", True),
            ("fusion", "residual", True),
            ("fusion", "review", True),
            ("residual_output", "residual", True),
            ("residual_output", "review", True),
            ("levels", "distance", "hcl"),
            ("level_weights", "distance", "hcl"),
        ),
    )

    def __init__(
        self,
        student_channels: Sequence[int],
        teacher_channels: Sequence[int],
        student_embedding: int = 0,
        teacher_embedding: int = 0,
        *,
        embedding: bool = True,
        review: bool = True,
        residual: bool = True,
        fusion: Fusion = "attention",
        residual_output: ResidualOutput = "fused",
        distance: Distance = "hcl",
        levels: tuple[int | str, ...] = ("h", 4, 2, 1),
        level_weights: tuple[float, ...] = (1.0, 0.5, 0.25, 0.125),
        mid_channels: int | None = None,
        ramp_epochs: int = 20,
        ramp_start: int = 1,
    ) -> None:
        super().__init__()
        check_choice(Fusion, fusion=fusion)
        check_choice(ResidualOutput, residual_output=residual_output)
        check_choice(Distance, distance=distance)
        students, teachers = list(student_channels), list(teacher_channels)
        if len(students) != len(teachers):
            raise PursuhintError(
                f"ReviewKD compares points of the same level, but got {len(students)} of the student and "
                f"{len(teachers)} of the teacher"
            )
        if embedding:
            students, teachers = [*students, student_embedding], [*teachers, teacher_embedding]
        else:
            self.info = self.info.replace(inputs=HintsLoss.info.inputs)
        if not students:
            raise PursuhintError("ReviewKD needs at least one hint point")
        width = min(512, students[-1]) if mid_channels is None else mid_channels
        check_positive(mid_channels=width)
        self.embedding = embedding
        self.residual = review and residual
        self.distance = (
            ContextDistance(levels, level_weights) if distance == "hcl" else ContextDistance(("h",), (1.0,))
        )
        self.ramp = LinearRamp(ramp_epochs, ramp_start)
        self.fusions = nn.ModuleList()
        for level, (own, target) in enumerate(zip(students, teachers)):
            deeper = teachers[level + 1] if level + 1 < len(teachers) else None
            if self.residual:
                self.fusions.append(
                    FeatureFusion(
                        own,
                        width,
                        target,
                        deeper_channels=(width if residual_output == "fused" else deeper) if deeper else None,
                        attention=fusion == "attention",
                        pass_on_output=residual_output == "output",
                    )
                )
            else:
                sources = students[level:] if review else [own]
                self.fusions.append(
                    nn.ModuleList(FeatureFusion(channels, width, target) for channels in sources)
                )

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """Widths of all points and of the embeddings."""
        return {
            **super().arguments(context),
            "student_embedding": context.student_embedding,
            "teacher_embedding": context.teacher_embedding,
        }

    def begin_epoch(self, epoch: int, epochs: int) -> None:
        """Grow to the full weight over the first epochs."""
        self.ramp.begin_epoch(epoch)

    def terms(
        self,
        students: Sequence[Tensor],
        teachers: Sequence[Tensor],
        student_embedding: Tensor | None = None,
        teacher_embedding: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Compare the features of all levels.

        Args:
            students: the student's features, one tensor a hint point: (N, C, H, W), or tokens (N, T, C).
            teachers: the teacher's.
            student_embedding: (N, D_s); left out without ``embedding``.
            teacher_embedding: (N, D_t).

        Returns:
            The addend of every level: ``hint_0``, ``hint_1``, ..., the last for the embeddings. Their sum
            is at least 0; zero when the last convolutions give the teacher's features.

        Raises:
            PursuhintError: the numbers of points or samples differ, or a batch is too small for batch norm.
        """
        own, other = list(students), list(teachers)
        if self.embedding:
            if student_embedding is None or teacher_embedding is None:
                raise PursuhintError("ReviewKD compares embeddings too; give them, or set embedding to False")
            own, other = [*own, student_embedding], [*other, teacher_embedding]
        if not len(own) == len(other) == len(self.fusions):
            raise PursuhintError(
                f"ReviewKD was built for {len(self.fusions)} levels, but got {len(own)} of the student "
                f"and {len(other)} of the teacher"
            )
        distances = self._fused(own, other) if self.residual else self._separate(own, other)
        return {f"hint_{level}": self.ramp.factor * value for level, value in enumerate(distances)}

    def _fused(self, students: list[Tensor], teachers: list[Tensor]) -> list[Tensor]:
        """Distance of every level where deeper ones are fused into it."""
        distances: list[Tensor] = []
        passed_on: Tensor | None = None
        # The review goes from the deepest level to the shallowest; each passes its fused map on.
        for fusion, own, other in reversed(list(zip(self.fusions, students, teachers))):
            student, teacher = as_maps(own, other)
            output, passed_on = fusion(student, _size(teacher), passed_on)
            distances.append(self.distance(output, teacher))
        return distances[::-1]

    def _separate(self, students: list[Tensor], teachers: list[Tensor]) -> list[Tensor]:
        """Distance of every level from its own point of the student and, with review, all deeper ones."""
        distances = []
        for level, (fusions, other) in enumerate(zip(self.fusions, teachers)):
            total = []
            for fusion, own in zip(fusions.children(), students[level:]):
                student, teacher = as_maps(own, other)
                total.append(self.distance(fusion(student, _size(teacher))[0], teacher))
            distances.append(torch.stack(total).sum())
        return distances


class FeatureFusion(nn.Module):
    """Bring the student's map to the teacher's width and size, mixed with what deeper levels passed on.

    Args:
        student_channels: width of the student's map.
        mid_channels: width in which maps are fused.
        teacher_channels: width that is wanted.
        deeper_channels: width of what the next deeper level passes on; None where there is none.
        attention: weigh both maps by attention maps; otherwise they are added.
        pass_on_output: pass on the output instead of the fused map. What comes from the deeper level is then
            brought to the width of the fusion by a 1x1 convolution with batch norm.
    """

    def __init__(
        self,
        student_channels: int,
        mid_channels: int,
        teacher_channels: int,
        *,
        deeper_channels: int | None = None,
        attention: bool = True,
        pass_on_output: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(student_channels, mid_channels, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(mid_channels)
        self.conv2 = nn.Conv2d(mid_channels, teacher_channels, kernel_size=3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(teacher_channels)
        self.pass_on_output = pass_on_output
        self.attention: nn.Module | None = None
        self.deeper: nn.Module = nn.Identity()
        if deeper_channels is not None:
            if attention:
                self.attention = nn.Conv2d(2 * mid_channels, 2, kernel_size=1)
            if pass_on_output:
                conv = nn.Conv2d(deeper_channels, mid_channels, kernel_size=1, bias=False)
                nn.init.kaiming_uniform_(conv.weight, a=1)
                self.deeper = nn.Sequential(conv, nn.BatchNorm2d(mid_channels))
        for conv in (self.conv1, self.conv2):
            nn.init.kaiming_uniform_(conv.weight, a=1)

    def forward(self, student: Tensor, size: Size, deeper: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Fuse one level.

        Args:
            student: (N, C_s, H, W).
            size: height and width of the teacher's map.
            deeper: what the next deeper level passed on, of any size; None for the deepest.

        Returns:
            The output, (N, C_t, *size), and what is passed on to the next shallower level.

        Raises:
            PursuhintError: in training mode, a single value per channel, which batch norm cannot normalise.
        """
        if self.training and student.shape[0] * student.shape[2] * student.shape[3] == 1:
            raise PursuhintError(
                "ReviewKD cannot normalise a map of one position in a batch of one sample; "
                "use a larger batch, or drop the incomplete last one"
            )
        fused = self.bn1(self.conv1(student))
        if deeper is not None:
            deeper = _resized(self.deeper(deeper), _size(student))
            if self.attention is None:
                fused = fused + deeper
            else:
                # ABF: two attention maps from both inputs, one for each of them
                weights = torch.sigmoid(self.attention(torch.cat([fused, deeper], dim=1)))
                fused = fused * weights[:, :1] + deeper * weights[:, 1:]
        fused = _resized(fused, size)
        output: Tensor = self.bn2(self.conv2(fused))
        return output, output if self.pass_on_output else fused


class ContextDistance(nn.Module):
    r"""The hierarchical context loss: the mean squared difference of two maps at several resolutions.

    .. math:: D(f, g) = \sum_l w_l \, \mathrm{mean} \big( (\mathrm{pool}_l(f) - \mathrm{pool}_l(g))^2 \big)
              \Big/ \sum_l w_l

    A level is the number of rows and columns to which both maps are averaged, or relative to the map ``"h"``
    (the map itself), ``"h-1"``, ``"h/2"`` (rounded down) and so on, which hold for rows and for columns and
    leave one of each at least. A number that is not below the height of the map means the map itself, however
    wide that is: the authors' code, for square maps, looks at heights alone. A level of a size that has been
    compared already is left out, and its weight falls to the next one: a map of 4 x 4 has the levels 4, 2 and
    1 of ``("h", 4, 2, 1)`` with the first three weights, as in the authors' code.

    Args:
        levels: at least one.
        weights: of the levels, positive, equally many.

    Raises:
        PursuhintError: a level cannot be read, a weight is not positive, or their numbers differ.
    """

    def __init__(self, levels: Sequence[int | str], weights: Sequence[float]) -> None:
        super().__init__()
        if not levels or len(levels) != len(weights):
            raise PursuhintError(
                "levels and level_weights must be equally many, and at least one; "
                f"got {len(levels)} and {len(weights)}"
            )
        for weight in weights:
            check_positive(level_weights=weight)
        self.levels = tuple(_parsed(level) for level in levels)
        self.weights = tuple(weights)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """Compare two maps of the same shape, (N, C, H, W); scalar, at least 0."""
        sizes = self.sizes(_size(student))
        weights = self.weights[: len(sizes)]
        total = student.new_zeros(())
        for size, weight in zip(sizes, weights):
            # HCL: one term per resolution, with its weight
            difference = pool_to(student, size) - pool_to(teacher, size)
            total = total + weight * difference.square().mean()
        return total / sum(weights)

    def sizes(self, size: Size) -> tuple[Size, ...]:
        """The different sizes at which maps of a given height and width are compared, in order."""
        return tuple(dict.fromkeys(_level_size(size, *level) for level in self.levels))


def _parsed(level: int | str) -> tuple[str, int]:
    """Operation and number: ``"="`` for a fixed size, ``"-"`` and ``"/"`` for sizes relative to the map."""
    if isinstance(level, int) and not isinstance(level, bool) and level > 0:
        return "=", level
    match = (
        re.fullmatch(r"h(?:([-/])([1-9]\d*))?", level.replace(" ", "")) if isinstance(level, str) else None
    )
    if match is None:
        raise PursuhintError(f"a level is a positive number, 'h', 'h-NUMBER' or 'h/NUMBER'; got {level!r}")
    return (match[1], int(match[2])) if match[1] else ("-", 0)


def _level_size(size: Size, operation: str, number: int) -> Size:
    height, width = size
    if operation == "=":
        return (number, number) if number < height else size
    if operation == "-":
        return max(height - number, 1), max(width - number, 1)
    return max(height // number, 1), max(width // number, 1)


def _size(maps: Tensor) -> Size:
    return maps.shape[2], maps.shape[3]


def _resized(maps: Tensor, size: Size) -> Tensor:
    return maps if _size(maps) == size else F.interpolate(maps, size=size, mode="nearest")
