"""A linear map that keeps lengths and angles as far as its widths allow."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["OrthogonalProjection"]


class OrthogonalProjection(nn.Module):
    r"""Multiply by a semi-orthogonal matrix: orthonormal columns or, to a smaller width, orthonormal rows.

    The matrix is the factor Q of :math:`W = QR` with a positive diagonal of R (Gram-Schmidt), where W is a
    free matrix that is trained. So it stays semi-orthogonal whatever the optimizer does, and neither weight
    decay nor any other scale of W changes it.

    Reference: the projector of R. Miles, I. Elezi and J. Deng, VkD: Improving Knowledge Distillation using
    Orthogonal Projections, CVPR 2024, https://arxiv.org/abs/2403.06213. Their code takes PyTorch's
    ``parametrizations.orthogonal``: the same matrices in other coordinates. Its form for unequal widths keeps
    signs in weights of 1 and -1 and becomes zero under weight decay.

    Args:
        student_width: width that comes in.
        teacher_width: width that goes out.
    """

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.free = nn.Parameter(nn.init.orthogonal_(torch.empty(teacher_width, student_width)))

    @property
    def matrix(self) -> Tensor:
        """The semi-orthogonal matrix, (teacher_width, student_width)."""
        rows, columns = self.free.shape
        tall = self.free if rows >= columns else self.free.T
        factor, triangle = torch.linalg.qr(tall)
        factor = factor * torch.where(triangle.diagonal() < 0, -1.0, 1.0)  # unique, thus smooth in W
        return factor if rows >= columns else factor.T

    def forward(self, features: Tensor) -> Tensor:
        """Map (N, student_width) to (N, teacher_width), or maps (N, C, H, W) at every position."""
        if features.ndim == 4:
            return F.conv2d(features, self.matrix[:, :, None, None])
        return F.linear(features, self.matrix)
