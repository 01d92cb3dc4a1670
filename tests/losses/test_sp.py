"""Similarity-preserving distillation."""

from __future__ import annotations

import math

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.sp import SimilarityPreservingLoss


@pytest.fixture
def loss():
    return SimilarityPreservingLoss()


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(5, 3, 2, 4, generator=generator, dtype=torch.float64),
        torch.randn(5, 6, 3, 3, generator=generator, dtype=torch.float64),
    )


def similarity_by_loop(features):
    rows = [f.flatten().tolist() for f in features]
    gram = [[sum(x * y for x, y in zip(a, b)) for b in rows] for a in rows]
    return [[g / math.sqrt(sum(h * h for h in row)) for g in row] for row in gram]


def test_equals_the_formula_as_a_loop(loss, features):
    own, other = (similarity_by_loop(f) for f in features)
    expected = sum((other[i][j] - own[i][j]) ** 2 for i in range(5) for j in range(5)) / 25
    assert loss(*features).item() == pytest.approx(expected, rel=1e-12)


def test_ignores_rotation_and_scale_of_the_feature_space(loss):
    features = torch.randn(6, 10, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rotation, _ = torch.linalg.qr(torch.randn(10, 10, dtype=torch.float64))
    torch.testing.assert_close(
        loss(features, 3 * features @ rotation), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_groups_of_samples_are_what_matters(loss):
    grouped = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    other_axes = torch.tensor([[0.0, 0.0, 5.0], [0.0, 0.0, 5.0], [2.0, 0.0, 0.0], [2.0, 0.0, 0.0]])
    mixed = grouped[[0, 2, 1, 3]]
    assert loss(other_axes, grouped).item() == pytest.approx(0, abs=1e-12)
    assert loss(mixed, grouped).item() == pytest.approx(16 * 0.25 * 2 / 16 / 2)


def test_a_dead_sample_gets_no_gradient(loss):
    student = torch.randn(4, 3, 2, 2)
    student[1] = 0
    student.requires_grad_()
    value = loss(student, torch.randn(4, 5, 2, 2))
    value.backward()
    assert value.isfinite()
    assert student.grad.abs().max() < 10
    assert loss(torch.zeros(4, 3), torch.zeros(4, 3)) == 0


def test_is_at_most_four_over_the_batch(loss):
    opposite = torch.tensor([[1.0], [-1.0]])
    assert 0 < loss(opposite, opposite.abs()) <= 4 / 2


def test_one_sample_is_like_itself(loss):
    assert loss(torch.randn(1, 3, 2, 2), torch.randn(1, 5, 2, 2)).item() == pytest.approx(0, abs=1e-12)


def test_refuses_other_batches(loss):
    with pytest.raises(PursuhintError, match="different batches: 8 and 4 samples"):
        loss(torch.zeros(4, 3), torch.zeros(8, 3))
