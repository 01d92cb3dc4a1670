"""DIST: correlations between classes and between samples."""

from __future__ import annotations

import math

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.dist import PredictionCorrelationLoss, correlation


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return 2 * torch.randn(2, 6, 5, generator=generator, dtype=torch.float64)


def pearson(u, v, eps):
    u = [x - sum(u) / len(u) for x in u]
    v = [x - sum(v) / len(v) for x in v]
    lengths = math.sqrt(sum(x * x for x in u)) * math.sqrt(sum(x * x for x in v))
    return sum(x * y for x, y in zip(u, v)) / (lengths + eps)


@pytest.mark.parametrize(("tau", "beta", "gamma", "eps"), [(4.0, 1.0, 1.0, 1e-8), (1.5, 2.0, 0.3, 1e-3)])
def test_equals_the_formula_as_a_loop(logits, tau, beta, gamma, eps):
    p, q = ((z / tau).softmax(1).tolist() for z in logits)
    rows = [1 - pearson(u, v, eps) for u, v in zip(p, q)]
    columns = [1 - pearson(u, v, eps) for u, v in zip(zip(*p), zip(*q))]
    expected = tau**2 * (beta * sum(rows) / len(rows) + gamma * sum(columns) / len(columns))
    loss = PredictionCorrelationLoss(temperature=tau, beta=beta, gamma=gamma, eps=eps)
    assert loss(*logits).item() == pytest.approx(expected, rel=1e-12)


def test_scale_and_shift_of_the_probabilities_do_not_matter():
    first = torch.rand(3, 7, dtype=torch.float64)
    assert correlation(first, 5 * first + 2, eps=0.0).tolist() == pytest.approx([1, 1, 1])
    assert correlation(first, -first, eps=0.0).tolist() == pytest.approx([-1, -1, -1])


def test_a_student_like_its_teacher_has_nothing_to_learn(logits):
    assert PredictionCorrelationLoss()(logits[0], logits[0]).item() == pytest.approx(0, abs=1e-4)


def test_every_pixel_is_a_sample():
    student, teacher = torch.randn(2, 2, 5, 3, 4, dtype=torch.float64)
    loss = PredictionCorrelationLoss(temperature=1.0)
    rows = [z.permute(0, 2, 3, 1).reshape(24, 5) for z in (student, teacher)]
    torch.testing.assert_close(loss(student, teacher), loss(*rows))


def test_one_sample_leaves_the_second_term_constant(logits):
    student = logits[0, :1].clone().requires_grad_()
    loss = PredictionCorrelationLoss(beta=0.0)
    value = loss(student, logits[1, :1])
    value.backward()
    assert value.item() == 16
    assert not student.grad.any()


@pytest.mark.parametrize("value", [0.0, 1e4])
def test_equal_and_saturated_logits_stay_finite(value):
    student = torch.zeros(4, 5)
    student[0, 1] = value
    student.requires_grad_()
    result = PredictionCorrelationLoss()(student, torch.eye(4, 5) * value)
    result.backward()
    assert result.isfinite()
    assert student.grad.abs().max() < 1e3
    student = torch.full((4, 5), 0.3, requires_grad=True)  # equal up to rounding
    PredictionCorrelationLoss()(student, torch.randn(4, 5)).backward()
    assert not student.grad.any()


def test_refuses_what_is_out_of_range_and_other_classes():
    with pytest.raises(PursuhintError, match="temperature must be positive"):
        PredictionCorrelationLoss(temperature=0.0)
    with pytest.raises(PursuhintError, match="beta must not be negative"):
        PredictionCorrelationLoss(beta=-1.0)
    with pytest.raises(PursuhintError, match="teacher has 4 classes, student 5"):
        PredictionCorrelationLoss()(torch.zeros(2, 5), torch.zeros(2, 4))
