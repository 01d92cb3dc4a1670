"""Probabilistic knowledge transfer."""

from __future__ import annotations

import math

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.pkt import ProbabilisticTransferLoss


@pytest.fixture
def embeddings():
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(5, 3, generator=generator, dtype=torch.float64),
        torch.randn(5, 7, generator=generator, dtype=torch.float64),
    )


def probabilities_by_loop(rows, eps, include_self):
    units = [[x / (math.sqrt(sum(y * y for y in row)) + eps) for x in row] for row in rows]
    similarity = [[(sum(x * y for x, y in zip(a, b)) + 1) / 2 for b in units] for a in units]
    if not include_self:
        for i in range(len(rows)):
            similarity[i][i] = 0.0
    return [[c / sum(row) for c in row] for row in similarity]


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize(("reduction", "divisor"), [("mean", 25), ("sum", 1)])
@pytest.mark.parametrize("eps", [1e-7, 0.1])
def test_equals_the_formula_as_a_loop(embeddings, include_self, reduction, divisor, eps):
    q, p = (probabilities_by_loop(e.tolist(), eps, include_self) for e in embeddings)
    expected = sum(p[i][j] * math.log((p[i][j] + eps) / (q[i][j] + eps)) for i in range(5) for j in range(5))
    loss = ProbabilisticTransferLoss(include_self=include_self, reduction=reduction, eps=eps)
    assert loss(*embeddings).item() == pytest.approx(expected / divisor, rel=1e-11)


def test_ignores_rotation_and_the_length_of_every_embedding(embeddings):
    teacher = embeddings[1]
    rotation, _ = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64))
    student = teacher @ rotation * torch.tensor([1.0, 5.0, 0.3, 2.0, 9.0]).double()[:, None]
    assert ProbabilisticTransferLoss()(student, teacher).item() == pytest.approx(0, abs=1e-12)


def test_single_precision_keeps_the_small_difference():
    generator = torch.Generator().manual_seed(2)
    teacher = torch.randn(64, 32, generator=generator, dtype=torch.float64)
    student = teacher + 0.1 * torch.randn(64, 32, generator=generator, dtype=torch.float64)
    loss = ProbabilisticTransferLoss(reduction="sum")
    torch.testing.assert_close(
        loss(student.float(), teacher.float()).double(), loss(student, teacher), rtol=1e-4, atol=0
    )


@pytest.mark.parametrize("include_self", [True, False])
def test_embeddings_of_zeros_stay_finite(embeddings, include_self):
    loss = ProbabilisticTransferLoss(include_self=include_self)
    student = embeddings[0].clone()
    student[2] = 0
    student.requires_grad_()
    value = loss(student, embeddings[1])
    value.backward()
    assert value.isfinite()
    assert student.grad.abs().max() < 10
    assert not student.grad[2].any()
    assert loss(embeddings[0], torch.zeros(5, 7).double()).isfinite()


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("student", [torch.ones(1, 3), torch.tensor([[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])])
def test_nobody_near_stays_finite(student, include_self):
    student = student.clone().requires_grad_()
    value = ProbabilisticTransferLoss(include_self=include_self)(student, student.detach().square())
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


def test_refuses_what_is_out_of_range():
    with pytest.raises(PursuhintError, match="eps must be positive, got 0"):
        ProbabilisticTransferLoss(eps=0.0)
    with pytest.raises(PursuhintError, match="different batches"):
        ProbabilisticTransferLoss()(torch.zeros(4, 3), torch.zeros(5, 7))
