"""Jacobian matching of attention (Srinivas and Fleuret, 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from torch import Tensor

from pursuhint.losses._parts.input_gradients import JacobianReduction, direction_distance, input_gradient
from pursuhint.losses._parts.maps import as_maps, pool_to_smaller
from pursuhint.losses.base import HintsLoss
from pursuhint.losses.checks import check_choice, check_same_batch

__all__ = ["AttentionJacobianLoss"]

AttentionPlace = Literal["teacher", "own"]


class AttentionJacobianLoss(HintsLoss):
    r"""Ask that the place to which the teacher attends most reacts to the same changes of an image.

    With :math:`A` the sum over channels of the squared features of a layer, :math:`x^*` the place where the
    teacher's is largest, and :math:`J` the gradient of :math:`A(x^*)` with respect to the image, scaled to
    unit length,

    .. math:: L = \sum_{pairs} \frac{1}{b} \sum_i \lVert J^S_i - J^T_i \rVert_2^2 .

    The form of the paper for transfer between tasks, added to attention transfer: the classes may differ.
    That the place is the teacher's for both networks is our reading, because only then are both gradients of
    the same thing; ``place="own"`` takes that of each network. Where sizes differ the larger map is
    averaged down first. The loss ``jacobian`` says what it costs.

    Reference: S. Srinivas and F. Fleuret, Knowledge Transfer with Jacobian Matching, ICML 2018, section 5,
    https://arxiv.org/abs/1803.00443.

    Args:
        reduction: ``"sample"``, the squared distance averaged over samples (the paper), or ``"element"``.
        place: where the student's attention is looked at: where that of the ``"teacher"`` is largest, or its
            ``"own"``.

    Raises:
        PursuhintError: an option is none of its values.

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
            teachers: features of the teacher, equally many.
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
            # Energies of all positions, (N, H W); the gradient is that of the largest one.
            place = other.argmax(1, keepdim=True)
            own_place = place if self.place == "teacher" else own.argmax(1, keepdim=True)
            gradients = (
                input_gradient(own.gather(1, own_place), images, create_graph=True),
                input_gradient(other.gather(1, place), images, create_graph=False),
            )
            found[f"hint_{index}"] = direction_distance(*gradients, self.reduction)
        return found
