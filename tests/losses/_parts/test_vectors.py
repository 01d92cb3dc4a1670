"""Vectors of unit length."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pursuhint.losses._parts.vectors import unit_length


@pytest.mark.parametrize("dim", [0, 1, -1])
def test_values_and_gradients_are_those_of_normalize(dim):
    vectors = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(4, 3, dtype=torch.float64)
    ours, theirs = unit_length(vectors, dim=dim), F.normalize(vectors, dim=dim)
    torch.testing.assert_close(ours, theirs)
    first, second = (torch.autograd.grad((value * weights).sum(), vectors)[0] for value in (ours, theirs))
    torch.testing.assert_close(first, second)


def test_short_vectors_are_constants():
    vectors = torch.tensor([[0.0, 0.0], [3e-13, 0.0], [3.0, 4.0]], requires_grad=True)
    units = unit_length(vectors)
    torch.testing.assert_close(units, F.normalize(vectors, eps=1e-12))
    units.sum().backward()
    assert not vectors.grad[:2].any()
    assert vectors.grad[2].any()
