"""Formulas of losses that compare derivatives by the images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def _matched(own: Tensor, other: Tensor, images: Tensor) -> Tensor:
    """Mean squared distance of two normalised Jacobians; values of every sample, which are summed."""
    (j_s,) = torch.autograd.grad(own.sum(), images, create_graph=True)
    (j_t,) = torch.autograd.grad(other.sum(), images, retain_graph=True)
    return (F.normalize(j_s.flatten(1)) - F.normalize(j_t.flatten(1))).square().sum(1).mean()


def jacobian(loss: Any, student: Tensor, teacher: Tensor, labels: Tensor, images: Tensor) -> Tensor:
    rows = torch.arange(len(labels))
    return _matched(student[rows, labels], teacher[rows, labels], images)


def jacobian_attention(
    loss: Any, students: Sequence[Tensor], teachers: Sequence[Tensor], images: Tensor
) -> Tensor:
    total = 0
    for student, teacher in zip(students, teachers):
        own, other = (f.square().sum(1).flatten(1) for f in (student, teacher))
        rows, place = torch.arange(len(own)), other.argmax(1)
        total = total + _matched(own[rows, place], other[rows, place], images)
    return total


FORMULAS = {"jacobian": jacobian, "jacobian-attention": jacobian_attention}
