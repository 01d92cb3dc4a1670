"""Feature kernel distillation (He and Ozay, 2022)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pursuhint._util.distributed import gather
from pursuhint.losses._parts.vectors import lengths, unit_length
from pursuhint.losses.base import EmbeddingLoss
from pursuhint.losses.checks import check_choice, check_non_negative, check_same_batch

__all__ = ["FeatureKernelLoss"]

Length = Literal["squared", "plain"]


def feature_kernel(embedding: Tensor) -> Tensor:
    """Cosine similarity of every pair of samples.

    Args:
        embedding: (N, D).

    Returns:
        (N, N), with ones on the diagonal; zero for samples of zero length.
    """
    directions = unit_length(embedding)
    return directions @ directions.T


class FeatureKernelLoss(EmbeddingLoss):
    r"""Ask the student to find the same samples similar, and to keep its embedding short.

    With :math:`\rho_{ij}` the cosine of the embeddings of samples :math:`i` and :math:`j`,

    .. math:: L = \lambda_{kd} \, \frac{1}{b (b - 1)} \sum_{i \ne j} \big(\rho^S_{ij} - \rho^T_{ij}\big)^2
              + \lambda_{fr} \, \frac{1}{b} \sum_i \lVert e^S_i \rVert_2^2 .

    Widths may differ, and so may the classes. The cosines of several teachers are averaged. A batch of one
    has no pairs and leaves the second term. Nothing is learned.

    No implementation of the authors was found; this is the objective of the paper. It gives no values of the
    two weights that could be confirmed: the defaults are the middles of the ranges {1, 10, 100} and
    {0, 0.001, 0.01}, within which they should be tuned on a validation split.

    Reference: B. He and M. Ozay, Feature Kernel Distillation, ICLR 2022,
    https://openreview.net/forum?id=tBIQEvApZK5.

    Args:
        kernel_weight: :math:`\lambda_{kd}`, at least 0.
        length_weight: :math:`\lambda_{fr}`, at least 0.
        length: ``"squared"``, the objective of the paper, or ``"plain"``, lengths that are not squared, as
            an implementation by others has it.

    Raises:
        PursuhintError: a weight is negative.

    Example:
        >>> FeatureKernelLoss()(torch.randn(8, 16), torch.randn(8, 64)).shape
        torch.Size([])
    """

    info = EmbeddingLoss.info.replace(
        title="FKD",
        paper="He and Ozay, Feature Kernel Distillation, ICLR 2022",
        minimum=None,
        batch_coupled=True,
    )

    def __init__(
        self, *, kernel_weight: float = 10.0, length_weight: float = 1e-3, length: Length = "squared"
    ) -> None:
        super().__init__()
        check_choice(Length, length=length)
        check_non_negative(kernel_weight=kernel_weight, length_weight=length_weight)
        self.kernel_weight = kernel_weight
        self.length_weight = length_weight
        self.length = length

    def terms(self, student: Tensor, *teachers: Tensor) -> dict[str, Tensor]:
        """Compare the embeddings of one batch.

        Args:
            student: (N, D_s).
            *teachers: (N, D_t) each, at least one.

        Returns:
            The two addends, weighted: ``kernel`` and ``length``. Their sum is at least 0.

        Raises:
            PursuhintError: the batch sizes differ.
        """
        kernel, length = self.parts(student, *teachers)
        return {"kernel": self.kernel_weight * kernel, "length": self.length_weight * length}

    def parts(self, student: Tensor, *teachers: Tensor) -> tuple[Tensor, Tensor]:
        """The two terms before their weights."""
        for teacher in teachers:
            check_same_batch(student, teacher)
        student = gather(student)
        wanted = self.teacher_kernel(*teachers)
        difference = feature_kernel(student) - wanted  # rho^S - rho^T
        others = ~torch.eye(len(student), dtype=torch.bool, device=student.device)
        # Mean over the pairs i != j: the diagonal is 1 in both, but 0 for samples of zero length.
        squares = difference.square().where(others, 0.0).sum()
        kernel = squares / max(1, len(student) * (len(student) - 1))
        if self.length == "plain":
            return kernel, lengths(student, dim=1).mean()
        return kernel, student.square().sum(1).mean()

    def teacher_kernel(self, *teachers: Tensor) -> Tensor:
        """Mean of the teachers' cosines, (N, N), over all ranks."""
        return torch.stack([feature_kernel(gather(teacher)) for teacher in teachers]).mean(0)
