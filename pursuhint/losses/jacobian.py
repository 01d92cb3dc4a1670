"""Jacobian matching (Srinivas and Fleuret, 2018)."""

from __future__ import annotations

from typing import Literal

from torch import Tensor

from pursuhint.losses._parts.input_gradients import JacobianReduction, direction_distance, input_gradient
from pursuhint.losses.base import LogitLoss
from pursuhint.losses.checks import check_choice, check_same_classes

__all__ = ["JacobianLoss"]

JacobianTarget = Literal["label", "teacher_argmax"]


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

    Raises:
        PursuhintError: an option is none of its values.

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
            teacher: logits of the teacher, (N, classes).
            labels: class numbers, (N,).
            images: (N, C, H, W).

        Returns:
            Scalar in [0, 4]; zero when the directions agree.

        Raises:
            PursuhintError: the numbers of samples or classes differ.
        """
        own, other = self.gradients(student, teacher, labels, images)
        return direction_distance(own, other, self.reduction)

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
