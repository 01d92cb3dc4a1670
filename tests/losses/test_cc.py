"""Correlation congruence: neighbours in the batch, or all pairs under a Gaussian kernel."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pursuhint.errors import PursuhintError
from pursuhint.losses.cc import CorrelationCongruenceLoss


@pytest.fixture
def embeddings():
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(5, 3, generator=generator, dtype=torch.float64),
        torch.randn(5, 7, generator=generator, dtype=torch.float64),
    )


def make(**options) -> CorrelationCongruenceLoss:
    torch.manual_seed(1)
    return CorrelationCongruenceLoss(3, 7, **options).double()


def test_neighbours_equal_the_formula_as_a_loop(embeddings):
    loss = make(embedding_width=4)
    own, other = loss.student_embedding, loss.teacher_embedding
    rows = []
    for student, teacher in zip(*embeddings):
        u, v = own.weight @ student + own.bias, other.weight @ teacher + other.bias
        rows.append([abs(x - y) for x, y in zip(u.tolist(), v.tolist())])
    expected = sum(a * b for i in range(4) for a, b in zip(rows[i], rows[i + 1])) / 4
    assert loss(*embeddings).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("gamma", "order"), [(0.4, 2), (1.5, 5), (0.1, 0)])
def test_gaussian_equals_the_formula_as_a_loop(embeddings, gamma, order):
    kernels = []
    for embedding in embeddings:
        rows = [[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in embedding.tolist()]
        cosines = [[sum(x * y for x, y in zip(a, b)) for b in rows] for a in rows]
        kernels.append(
            [
                math.exp(-2 * gamma)
                * sum((2 * gamma) ** p / math.factorial(p) * cosine**p for p in range(order + 1))
                for row in cosines
                for cosine in row
            ]
        )
    expected = sum((a - b) ** 2 for a, b in zip(*kernels)) / 25
    loss = make(relation="gaussian", gamma=gamma, order=order)
    assert loss(*embeddings).item() == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_the_taylor_expansion_is_that_of_the_gaussian_kernel(embeddings):
    loss = make(relation="gaussian", gamma=0.7, order=30)
    directions = embeddings[0] / embeddings[0].norm(dim=1, keepdim=True)
    kernel = torch.exp(-0.7 * (directions[:, None] - directions).square().sum(2))
    torch.testing.assert_close(loss._correlations(embeddings[0]), kernel)


def test_equal_embeddings_leave_nothing_to_learn(embeddings):
    loss = CorrelationCongruenceLoss(3, 3, embedding_width=3).double()
    for layer in (loss.student_embedding, loss.teacher_embedding):
        nn.init.eye_(layer.weight)
        nn.init.zeros_(layer.bias)
    assert loss(embeddings[0], embeddings[0]) == 0
    assert make(relation="gaussian")(embeddings[1], embeddings[1]) == 0


def test_order_matters_to_neighbours_alone(embeddings):
    order = torch.tensor([1, 3, 0, 2, 4])
    shuffled = [e[order] for e in embeddings]
    assert not torch.isclose(make()(*shuffled), make()(*embeddings))
    gaussian = make(relation="gaussian")
    torch.testing.assert_close(gaussian(*shuffled), gaussian(*embeddings))


def test_only_neighbours_have_something_to_learn():
    assert len(list(make().parameters())) == 4
    assert not list(make(relation="gaussian").parameters())


@pytest.mark.parametrize("relation", ["neighbors", "gaussian"])
def test_one_sample_has_no_neighbours(relation):
    student = torch.randn(1, 3, dtype=torch.float64, requires_grad=True)
    value = make(relation=relation)(student, torch.randn(1, 7, dtype=torch.float64))
    value.backward()
    assert value.item() == pytest.approx(0, abs=1e-12)
    assert student.grad.isfinite().all()


def test_dead_embeddings_stay_finite():
    student = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    value = make(relation="gaussian")(student, torch.zeros(4, 7, dtype=torch.float64))
    value.backward()
    assert value == 0
    assert not student.grad.any()


def test_refuses_what_is_out_of_range():
    for name in ("embedding_width", "gamma"):
        with pytest.raises(PursuhintError, match=f"{name} must be positive, got 0"):
            make(**{name: 0})
    with pytest.raises(PursuhintError, match="order must not be negative, got -1"):
        make(order=-1)
    with pytest.raises(PursuhintError, match="different batches"):
        make()(torch.zeros(4, 3).double(), torch.zeros(5, 7).double())
