"""What the classifiers of student and teacher make of every position of their last maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint._util.wrappers import copy_network
from pursuhint.errors import PursuhintError
from pursuhint.features.head import Head, find_head
from pursuhint.losses.context import LossContext

__all__ = ["ClassifierMaps"]


class ClassifierMaps(nn.Module):
    """Apply the classifiers of student and teacher to every position of their last maps.

    The mean over positions of what comes out are the logits, for networks that average their last map and
    classify the mean. Gradients reach the student's own classifier; the teacher's is copied and frozen.

    Args:
        student: the student's classifier, a linear layer.
        teacher: the teacher's, a linear layer or a 1x1 convolution.
        bias: add the biases.
        head: where the student's classifier is, to look it up in `prepare`.

    Raises:
        PursuhintError: the numbers of classes differ, or a classifier is of another kind.
    """

    def __init__(
        self, student: nn.Module, teacher: nn.Module, *, bias: bool = True, head: Head | None = None
    ) -> None:
        super().__init__()
        for whose, layer in (("student", student), ("teacher", teacher)):
            if not isinstance(layer, nn.Linear | nn.Conv2d):
                raise PursuhintError(
                    f"the {whose}'s classifier must be a linear layer to be applied to maps, but is a "
                    f"{type(layer).__name__}"
                )
        assert isinstance(student.weight, Tensor)
        assert isinstance(teacher.weight, Tensor)
        if len(student.weight) != len(teacher.weight):
            raise PursuhintError(
                f"the student has {len(student.weight)} classes and the teacher {len(teacher.weight)}; their "
                "class maps can be compared for equal classes only"
            )
        self.bias = bias
        self.teacher = copy_network(teacher).requires_grad_(False)
        self._student = [student]  # in a list: the student's own, so it is not a part of the loss
        self._head = head

    @classmethod
    def of(cls, context: LossContext, *, bias: bool = True) -> ClassifierMaps:
        """Find the classifiers of two networks."""
        assert context.student is not None
        assert context.example is not None
        assert context.teacher_classifier is not None
        head = find_head(context.student, context.example)
        student = head.linear_classifier(context.student)
        return cls(student, context.teacher_classifier, bias=bias, head=head)

    def prepare(self, student: nn.Module) -> None:
        """Look up the classifier of the student that is trained."""
        if self._head is not None:
            self._student = [self._head.linear_classifier(student)]

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Class maps, (N, classes, H, W), of the student's and of the teacher's last maps.

        Args:
            student: (N, C, H, W), tokens (N, T, C), or an embedding (N, C), which is one position.
            teacher: the same, not necessarily of the same kind.

        Raises:
            PursuhintError: a map has another width than the classifier takes.
        """
        return self._applied("student", self._student[0], student), self._applied(
            "teacher", self.teacher, teacher
        )

    def _applied(self, whose: str, layer: nn.Module, maps: Tensor) -> Tensor:
        if maps.ndim == 3:
            maps = maps.transpose(1, 2)[..., None]
        elif maps.ndim == 2:
            maps = maps[:, :, None, None]
        weight = layer.weight
        assert isinstance(weight, Tensor)
        weight = weight.flatten(1).to(maps.dtype)
        if weight.shape[1] != maps.shape[1]:
            raise PursuhintError(
                f"the {whose}'s classifier takes {weight.shape[1]} features, but its last map has "
                f"{maps.shape[1]} channels; class maps need a network that averages its last map and "
                "classifies the mean"
            )
        bias = layer.bias if self.bias else None
        assert bias is None or isinstance(bias, torch.Tensor)
        return F.conv2d(maps, weight[:, :, None, None], None if bias is None else bias.to(maps.dtype))
