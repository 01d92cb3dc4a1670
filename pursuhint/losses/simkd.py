"""Distillation with the reused teacher classifier (Chen et al., 2022)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint._util.wrappers import copy_network
from pursuhint.errors import PursuhintError
from pursuhint.features.head import Head, find_head
from pursuhint.losses._parts.connectors import Bottleneck
from pursuhint.losses._parts.maps import Size, as_maps, map_sizes, pool_to, pool_to_smaller, smaller_size
from pursuhint.losses.base import HintsLoss
from pursuhint.losses.checks import check_positive, check_same_batch
from pursuhint.losses.context import LossContext

__all__ = ["ReusedClassifierLoss"]

_NAME = "projector"


class Projector(nn.Module):
    """From the student's last map to the teacher's: pooled to a size, then a `Bottleneck`.

    Args:
        student_channels: channels that come in.
        teacher_channels: channels that go out.
        size: height and width that go out; maps of another size are averaged to it first.
        hidden_channels: width in between.
    """

    def __init__(
        self, student_channels: int, teacher_channels: int, size: Size, hidden_channels: int
    ) -> None:
        super().__init__()
        self.size = size
        self.register_buffer("output_size", torch.tensor(size))  # goes with the weights, for `rebuild`
        self.layers = Bottleneck(student_channels, hidden_channels, teacher_channels, end_in_relu=True)

    @classmethod
    def like(cls, weights: Mapping[str, Tensor]) -> Projector:
        """A projector that these weights fit, by name."""
        first, last = weights["layers.conv1.weight"], weights["layers.conv3.weight"]
        height, width = weights["output_size"].tolist()
        return cls(first.shape[1], last.shape[0], (height, width), hidden_channels=first.shape[0])

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, C_s, H, W) to (N, C_t, *size)."""
        output: Tensor = self.layers(pool_to(features, self.size))
        return output


class ReusedClassifierLoss(HintsLoss):
    r"""Give the student the teacher's classifier, and ask only for the map in front of it.

    With :math:`P` a projector and :math:`f` the maps that the networks average into their embeddings,

    .. math:: L = \frac{1}{b c h w} \lVert P(f_S) - f_T \rVert_2^2 .

    The student becomes: its layers up to the last map, the projector (1x1, 3x3 and 1x1 convolutions, each
    with batch norm and ReLU), the average over space, and a frozen copy of the teacher's classifier; its own
    classifier is gone. That is what is trained, evaluated and kept, so its size counts projector and
    classifier. Sizes may differ: the larger map is averaged down, the student's before the projector. Maps of
    the teacher must not be negative, and the classes must be the same.

    There is no other term: cross-entropy has weight 0.

    Reference: D. Chen, J.-P. Mei, H. Zhang, C. Wang, Y. Feng and C. Chen, Knowledge Distillation with the
    Reused Teacher Classifier, CVPR 2022, https://arxiv.org/abs/2203.14001.

    Args:
        student_channels: width of the student's last map.
        teacher_channels: width of the teacher's.
        student_size: height and width of the student's last map.
        teacher_size: height and width of the teacher's.
        teacher_classifier: copied and frozen.
        head: where the student ends.
        factor: the projector's width in between is the teacher's divided by this, rounded down; the paper
            also reports 4 and 8.

    Raises:
        PursuhintError: ``factor`` is below 1 or above the teacher's width, or the student has no place for
            the projector.

    Example:
        >>> task = {"num_classes": 100, "num_samples": 50_000, "example": images}
        >>> distiller = Distiller.build(student, teacher, losses={"simkd": None}, **task)
        >>> distiller.export()(images).shape
        torch.Size([8, 10])
    """

    info = HintsLoss.info.replace(
        title="SimKD",
        paper="Chen et al., Knowledge Distillation with the Reused Teacher Classifier, CVPR 2022",
        learns="a projector, which the student keeps",
        default_ce_weight=0.0,
        compares="last map",
        at_last_map=True,
        needs_teacher_classifier=True,
        alters_student=True,
    )

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        student_size: Size,
        teacher_size: Size,
        teacher_classifier: nn.Module,
        head: Head,
        *,
        factor: int = 2,
    ) -> None:
        super().__init__()
        check_positive(factor=factor)
        if factor > teacher_channels:
            raise PursuhintError(
                f"factor must be at most the {teacher_channels} channels of the teacher's last map, "
                f"got {factor}"
            )
        if not isinstance(teacher_classifier, nn.Linear):
            raise PursuhintError(
                "SimKD reuses a linear classifier, but the teacher's is a "
                f"{type(teacher_classifier).__name__}"
            )
        self.info = self.info.replace(extra_taps=(head.place(_NAME),))
        self._new_layers = (
            student_channels,
            teacher_channels,
            smaller_size(student_size, teacher_size),
            teacher_channels // factor,
        )
        self._head = head
        self._classifier = [teacher_classifier]  # in a list, so that it does not become a part of the loss

    @classmethod
    def check_context(cls, context: LossContext) -> None:
        """Refuse teachers of other classes, and a context without the student."""
        super().check_context(context)
        if context.teacher_classes not in (None, context.num_classes):
            raise PursuhintError(
                f"teacher has {context.teacher_classes} classes, student {context.num_classes}; SimKD gives "
                "the student the teacher's classifier and needs the same classes"
            )

    @classmethod
    def arguments(cls, context: LossContext) -> dict[str, Any]:
        """Widths and sizes of the last maps, the classifier, and the place of the projector."""
        ((student, teacher),) = context.pairs
        student_size, teacher_size = map_sizes(student, teacher)
        assert context.student is not None
        assert context.example is not None
        return {
            "student_channels": student.channels,
            "teacher_channels": teacher.channels,
            "student_size": student_size,
            "teacher_size": teacher_size,
            "teacher_classifier": context.teacher_classifier,
            "head": find_head(context.student, context.example),
        }

    @classmethod
    def prepared_embedding(cls, context: LossContext) -> int:
        """The width of the teacher's embedding: the student gets its classifier."""
        return context.teacher_embedding

    def prepare(self, student: nn.Module) -> nn.Module:
        """Put the projector behind the last map, and the teacher's classifier in the student's place."""
        like = next(student.parameters())
        projector = Projector(*self._new_layers).to(like.device, like.dtype)
        classifier = copy_network(self._classifier[0]).to(like.device, like.dtype).requires_grad_(False)
        self._head.insert(student, _NAME, projector)
        self._head.change_classifier(student, lambda own: classifier)
        return student

    @classmethod
    def rebuild(cls, student: nn.Module, weights: Mapping[str, Tensor], example: Tensor) -> nn.Module:
        """Put a projector and a classifier of the right sizes into a new student."""
        head = find_head(student, example)
        prefix = f"{head.place(_NAME)}."
        own = {name.removeprefix(prefix): part for name, part in weights.items() if name.startswith(prefix)}
        head.insert(student, _NAME, Projector.like(own))
        classes, width = weights[f"{head.classifier}.weight"].shape
        head.change_classifier(student, lambda own: nn.Linear(width, classes))
        return student

    def forward(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
        """Compare the maps of one batch.

        Args:
            students: last, what the projector gives, (N, C_t, H, W).
            teachers: the teacher's last map, (N, C_t, H_t, W_t).

        Returns:
            Scalar, at least 0; zero when the projector gives the teacher's map.

        Raises:
            PursuhintError: the batch sizes differ.
        """
        check_same_batch(students[-1], teachers[0])
        # The last of the student's features is P(f_S), the output of the projector.
        return F.mse_loss(*pool_to_smaller(*as_maps(students[-1], teachers[0])))
