"""Jacobian matching (Srinivas and Fleuret, 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from pursuhint.losses._parts.maps import as_maps, pool_to_smaller
from pursuhint.losses._parts.vectors import unit_length
from pursuhint.losses.base import HintsLoss, LogitLoss
from pursuhint.losses.checks import check_choice, check_same_batch, check_same_classes

__all__ = ["AttentionJacobianLoss", "JacobianLoss"]

JacobianReduction = Literal["sample", "element"]
JacobianTarget = Literal["label", "teacher_argmax"]
AttentionPlace = Literal["teacher", "own"]


def input_gradient(values: Tensor, images: Tensor, *, create_graph: bool) -> Tensor:
    """Gradient of one number a sample with respect to its image.

    Batch norm in training mode lets a sample's value depend on the other images too; as the gradient of the
    sum of all values is taken, the gradients of a batch then mix.

    Args:
        values: (N,), computed from ``images`` with gradient.
        images: (N, C, H, W).
        create_graph: whether the result can be differentiated in turn.

    Returns:
        (N, C * H * W).
    """
    (gradient,) = torch.autograd.grad(values.sum(), images, create_graph=create_graph, retain_graph=True)
    return gradient.flatten(1)


def _difference(student: Tensor, teacher: Tensor, reduction: JacobianReduction) -> Tensor:
    squares = (unit_length(student) - unit_length(teacher.detach())).square()
    return squares.mean() if reduction == "element" else squares.sum(1).mean()


class JacobianLoss(LogitLoss):
    r"""Ask the student to react to the same changes of an image as the teacher.

    With :math:`J` the gradient of one logit with respect to the image, scaled to unit length,

    .. math:: L = \frac{1}{b} \sum_i \lVert J^S_i - J^T_i \rVert_2^2 .

    The paper derives it from distillation with noise on the images, for the full Jacobian; one logit, that of
    the label, is what is affordable. Training then differentiates the gradient once more, so that operations
    of the student must have second derivatives, and with batch norm in training mode the gradients of a batch
    mix. Teacher and student need the same classes. Nothing is learned.

    The available implementation, by others, takes the mean over all elements, which is smaller by the
    number of values in an image: ``reduction="element"``. Its authors warn that the loss alone is unstable:
    use it beside cross-entropy and KD. No weight is published for either form; 1 is a start.

    Reference: S. Srinivas and F. Fleuret, Knowledge Transfer with Jacobian Matching, ICML 2018,
    https://arxiv.org/abs/1803.00443.

    Args:
        target: which logit, that of the ``"label"`` or the largest of the teacher's, ``"teacher_argmax"``.
        reduction: ``"sample"``, the squared distance averaged over samples (the paper), or ``"element"``.

    Example:
        >>> images = torch.randn(4, 3, 8, 8, requires_grad=True)
        >>> logits = images.flatten(1).square() @ torch.randn(192, 10)
        >>> JacobianLoss()(logits, 2 * logits, torch.arange(4), images).item()
        0.0
    """

    info = LogitLoss.info.replace(
        title="Jacobian matching",
        paper="Srinivas and Fleuret, Knowledge Transfer with Jacobian Matching, ICML 2018",
        inputs=(*LogitLoss.info.inputs, "images"),
        needs_input_gradients=True,
    )

    def __init__(
        self,
        *,
        target: JacobianTarget = "label",
        reduction: JacobianReduction = "sample",
    ) -> None:
        super().__init__()
        check_choice(JacobianTarget, target=target)
        check_choice(JacobianReduction, reduction=reduction)
        self.target = target
        self.reduction = reduction

    def forward(self, student: Tensor, teacher: Tensor, labels: Tensor, images: Tensor) -> Tensor:
        """Compare the gradients of one batch.

        Args:
            student: logits, (N, classes), computed from ``images`` with gradient.
            teacher: the same of the teacher.
            labels: class numbers, (N,).
            images: (N, C, H, W).

        Returns:
            Scalar in [0, 4]; zero when the directions agree.

        Raises:
            PursuhintError: the numbers of samples or classes differ.
        """
        own, other = self.gradients(student, teacher, labels, images)
        return _difference(own, other, self.reduction)

    def gradients(
        self, student: Tensor, teacher: Tensor, labels: Tensor, images: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The two gradients before scaling, (N, C * H * W) each; takes what `forward` takes."""
        check_same_classes(self.info.title, student, teacher)
        target = (labels if self.target == "label" else teacher.argmax(1))[:, None]
        return (
            input_gradient(student.gather(1, target), images, create_graph=True),
            input_gradient(teacher.gather(1, target), images, create_graph=False),
        )


class AttentionJacobianLoss(HintsLoss):
    r"""Ask that the place to which the teacher attends most reacts to the same changes of an image.

    With :math:`A` the sum over channels of the squared features of a layer, :math:`x^*` the place where the
    teacher's is largest, and :math:`J` the gradient of :math:`A(x^*)` with respect to the image, scaled to
    unit length,

    .. math:: L = \sum_{pairs} \frac{1}{b} \sum_i \lVert J^S_i - J^T_i \rVert_2^2 .

    The form of the paper for transfer between tasks, added to attention transfer: the classes may differ.
    That the place is the teacher's for both networks is our reading, because only then are both gradients of
    the same thing; ``place="own"`` takes that of each network. Where sizes differ the larger map is
    averaged down first. See `JacobianLoss` for what it costs and for the reductions.

    Reference: S. Srinivas and F. Fleuret, Knowledge Transfer with Jacobian Matching, ICML 2018, section 5,
    https://arxiv.org/abs/1803.00443.

    Args:
        reduction: ``"sample"``, the squared distance averaged over samples (the paper), or ``"element"``.
        place: where the student's attention is looked at: where that of the ``"teacher"`` is largest, or its
            ``"own"``.

    Example:
        >>> images = torch.randn(4, 3, 8, 8, requires_grad=True)
        >>> AttentionJacobianLoss()([images.sin()], [images.sin()], images).item()
        0.0
    """

    info = HintsLoss.info.replace(
        title="Jacobian matching of attention",
        paper="Srinivas and Fleuret, Knowledge Transfer with Jacobian Matching, ICML 2018",
        inputs=(*HintsLoss.info.inputs, "images"),
        needs_input_gradients=True,
    )

    def __init__(self, *, reduction: JacobianReduction = "sample", place: AttentionPlace = "teacher") -> None:
        super().__init__()
        check_choice(JacobianReduction, reduction=reduction)
        check_choice(AttentionPlace, place=place)
        self.reduction = reduction
        self.place = place

    def terms(
        self, students: Sequence[Tensor], teachers: Sequence[Tensor], images: Tensor
    ) -> dict[str, Tensor]:
        """Compare the gradients of one batch.

        Args:
            students: (N, C, H, W) or tokens (N, T, C), computed from ``images`` with gradient.
            teachers: the same of the teacher, equally many.
            images: (N, C, H, W).

        Returns:
            The addend of each pair: ``hint_0``, ``hint_1``, ... Their sum is in [0, 4 * pairs]; zero when
            the directions agree.

        Raises:
            PursuhintError: the batch sizes differ, or features cannot be compared.
        """
        found = {}
        for index, (student, teacher) in enumerate(zip(students, teachers, strict=True)):
            check_same_batch(student, images)
            own, other = (
                features.square().sum(1).flatten(1)
                for features in pool_to_smaller(*as_maps(student, teacher))
            )
            place = other.argmax(1, keepdim=True)
            own_place = place if self.place == "teacher" else own.argmax(1, keepdim=True)
            gradients = (
                input_gradient(own.gather(1, own_place), images, create_graph=True),
                input_gradient(other.gather(1, place), images, create_graph=False),
            )
            found[f"hint_{index}"] = _difference(*gradients, self.reduction)
        return found
