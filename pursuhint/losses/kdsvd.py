"""Knowledge distillation through singular value decomposition (Lee, Kim and Song, 2018)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.connectors import match_width
from pursuhint.losses._parts.maps import as_maps
from pursuhint.losses._parts.vectors import in_range
from pursuhint.losses.base import HintsLoss
from pursuhint.losses.checks import check_positive

__all__ = ["SingularVectorLoss"]

_MORE_CANDIDATES = 3
"""So many more singular vectors of the student than of the teacher are looked at, as they may be swapped."""


class SingularVectorLoss(HintsLoss):
    r"""Ask the student's principal directions to turn from hint point to hint point as the teacher's do.

    The feature map of one sample is a matrix of h w positions and c channels. Its right singular vectors are
    directions in the space of the channels. Of the teacher those of the :math:`k` largest singular values
    are kept; each is met by the one among the first :math:`k + 3` of the student that is most parallel to it,
    with the sign that makes them point the same way. Both are multiplied by the teacher's singular value (of
    the :math:`k`, scaled to unit length). For consecutive hint points :math:`a, b` with vectors
    :math:`v_{aj}, v_{bj}`,

    .. math:: R_j[c, d] = \exp \big( -\tfrac{1}{8} (v_{bj}[c] - v_{aj}[d])^2 \big), \quad
              L = \sum_{(a, b)} \frac{1}{N} \sum_{n, j, c, d} (R_j^S[c, d] - R_j^T[c, d])^2 ,

    one term for each of the n - 1 steps between n hint points; there must be two or more. Sizes may differ.
    Where channels do, a learned 1x1 convolution without bias brings the student's to the teacher's; the
    reference code fails there.

    The loss depends on the sign of the teacher's vectors, which no decomposition defines: here the component
    of largest magnitude is positive. The code of the CIFAR-100 benchmark of Tian et al. (ICLR 2020), which is
    followed otherwise, leaves it to the linear-algebra library. Singular values that are equal or zero, as a
    constant map has them, give NaN gradients there; here the directions that they leave undefined get none.
    mdistiller reads the map as a matrix of c h rows and w columns, whose vectors lie along the width: not
    this method. The weight 1 is mdistiller's. The paper also clips the gradients of several tasks against
    each other, which is not part of the loss. One decomposition a sample makes the method slow, and each hint
    point makes the host of a GPU wait once for either network: PyTorch reads whether they succeeded.

    Reference: S. H. Lee, D. H. Kim and B. C. Song, Self-supervised Knowledge Distillation Using Singular
    Value Decomposition, ECCV 2018, https://arxiv.org/abs/1807.06819.

    Args:
        student_channels: width of the student's features at every hint point.
        teacher_channels: width of the teacher's features at every hint point.
        vectors: :math:`k`, at least 1. Fewer where a map has fewer positions or channels.

    Raises:
        PursuhintError: there are fewer than two hint points, or ``vectors`` is not positive.

    Example:
        >>> loss = SingularVectorLoss([16, 32], [16, 32])
        >>> students = [torch.randn(8, 16, 4, 4), torch.randn(8, 32, 2, 2)]
        >>> teachers = [torch.randn(8, 16, 8, 8), torch.randn(8, 32, 4, 4)]
        >>> loss(students, teachers).shape
        torch.Size([])
    """

    info = HintsLoss.info.replace(
        title="KDSVD",
        paper="Lee, Kim and Song, Self-supervised Knowledge Distillation Using SVD, ECCV 2018",
        learns="a convolution of the student's map, where channels differ",
        default_weight=1.0,
    )

    def __init__(
        self, student_channels: Sequence[int], teacher_channels: Sequence[int], *, vectors: int = 1
    ) -> None:
        super().__init__()
        check_positive(vectors=vectors)
        if len(student_channels) < 2:
            raise PursuhintError(
                f"KDSVD compares steps between hint points and needs two or more, got {len(student_channels)}"
            )
        self.vectors = vectors
        self.connectors = nn.ModuleList(
            match_width(own, other) for own, other in zip(student_channels, teacher_channels, strict=True)
        )

    def terms(self, students: Sequence[Tensor], teachers: Sequence[Tensor]) -> dict[str, Tensor]:
        """Compare the features of all hint points.

        Args:
            students: (N, C_s, H_s, W_s), or tokens (N, T, C_s), one tensor a hint point.
            teachers: (N, C_t, H_t, W_t), or tokens (N, T, C_t), one tensor a hint point.

        Returns:
            The loss of each step: ``hint_0``, ``hint_1``, ... Their sum is at least 0; zero when the
            directions agree.

        Raises:
            PursuhintError: the batch sizes differ, or the features cannot be compared.
        """
        directions = [
            self.directions(index, student, teacher)
            for index, (student, teacher) in enumerate(zip(students, teachers, strict=True))
        ]
        return {
            f"hint_{index}": step_distance(previous, present).mean()
            for index, (previous, present) in enumerate(pairwise(directions))
        }

    def directions(self, index: int, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Principal directions of student and teacher at one hint point.

        Args:
            index: which one.
            student: its features, as `forward` takes them.
            teacher: the same.

        Returns:
            (N, C_t, at most ``vectors``) each, every vector as long as the teacher's relative singular value.
        """
        student, teacher = as_maps(student, teacher)
        student = self.connectors[index](student)
        with torch.no_grad():
            theirs, values = singular_vectors(_matrices(teacher), self.vectors)
            theirs = self.oriented(index, theirs)
        own, _ = singular_vectors(_matrices(student), self.vectors + _MORE_CANDIDATES)
        # Every vector is as long as the teacher's singular value relative to the others of this map.
        relative = F.normalize(values, dim=1)[:, None]
        return _aligned(own, theirs) * relative, theirs * relative

    def oriented(self, index: int, vectors: Tensor) -> Tensor:
        """Which of two opposite vectors is meant; to be overridden for another convention.

        Args:
            index: of the hint point.
            vectors: the teacher's, (N, C, K).

        Returns:
            The same with some of them negated: the component of largest magnitude is positive.
        """
        largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
        return torch.where(largest < 0, -vectors, vectors)


def step_distance(previous: tuple[Tensor, Tensor], present: tuple[Tensor, Tensor]) -> Tensor:
    """How differently student and teacher turn from one hint point to the next.

    Args:
        previous: directions of the student and of the teacher, (N, C_a, K).
        present: the same of the next hint point, (N, C_b, K); K may differ, the first ones count.

    Returns:
        (N,): squared differences of all entries of both relations, summed.
    """
    count = min(previous[0].shape[2], present[0].shape[2])
    # R_j[c, d], student and teacher
    own, other = (
        torch.exp(-(b[:, :, None, :count] - a[:, None, :, :count]).square() / 8)
        for a, b in zip(previous, present)
    )
    return (own - other).square().sum((1, 2, 3))


def singular_vectors(matrices: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Right singular vectors and values, the largest first.

    The gradient of a vector says how it turns towards the others. Where two singular values are equal, or
    one is zero, that is undefined; there the vector is taken not to turn.

    Args:
        matrices: (N, rows, columns).
        count: how many are wanted.

    Returns:
        Vectors, (N, columns, K), with their gradient up to first order, and values, (N, K), without; K is
        ``count``, or the smaller of rows and columns if that is less.
    """
    finite = matrices.detach().nan_to_num(posinf=0.0, neginf=0.0)  # others reach the result through `product`
    _, values, transposed = torch.linalg.svd(finite, full_matrices=False)
    basis = transposed.mT
    wanted = basis[:, :, :count]
    squares = values.square()
    # A change d of AᵀA turns an eigenvector v_i by the sum over j of v_j (v_j · d v_i) / (λ_i - λ_j).
    product = matrices.mT @ (matrices @ wanted)
    change = product - product.detach()  # zero, with the gradient of d v_i
    noise = 10 * torch.finfo(values.dtype).eps * squares[:, :1, None]
    inside = basis.mT @ change
    gaps = squares[:, None, :count] - squares[:, :, None]
    turned = basis @ (inside * _inverse(gaps, noise))
    outside = change - basis @ inside  # directions in which no row points have eigenvalue 0
    turned = turned + outside * _inverse(squares[:, None, :count], noise)
    return wanted + turned, values[:, :count]


def _inverse(values: Tensor, noise: Tensor) -> Tensor:
    """1 / values; 0 where they are no larger than noise."""
    distinct = values.abs() > noise
    return distinct / values.where(distinct, 1.0)


def _matrices(features: Tensor) -> Tensor:
    """One matrix of positions and channels a sample, (N, H W, C); fourth powers of its values are finite.

    A common factor of a sample changes neither its singular vectors nor the ratios of its values.
    """
    matrices = in_range(features.flatten(1), dim=1, power=4).view_as(features)
    return matrices.flatten(2).mT


def _aligned(own: Tensor, theirs: Tensor) -> Tensor:
    """For each of the teacher's vectors the student's most parallel one, pointing the same way."""
    products = own.mT @ theirs  # (N, candidates, K)
    sizes = products.abs()
    chosen = sizes == sizes.amax(1, keepdim=True)
    return own @ (products.sign() * chosen).detach()
