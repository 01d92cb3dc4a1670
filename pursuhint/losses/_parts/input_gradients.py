"""Gradients with respect to the images, and the distance of their directions, for Jacobian matching."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from pursuhint.losses._parts.vectors import unit_length

__all__ = ["direction_distance", "input_gradient"]

JacobianReduction = Literal["sample", "element"]


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


def direction_distance(student: Tensor, teacher: Tensor, reduction: JacobianReduction) -> Tensor:
    """Squared distance of two gradients scaled to unit length, (N, D) each.

    Args:
        student: with gradient.
        teacher: taken as a constant.
        reduction: ``"sample"``, the mean over samples, in [0, 4]; ``"element"``, the mean over all elements.

    Returns:
        Scalar.
    """
    squares = (unit_length(student) - unit_length(teacher.detach())).square()
    return squares.mean() if reduction == "element" else squares.sum(1).mean()
