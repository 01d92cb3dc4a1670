"""Relational distillation: distances and angles among samples."""

from __future__ import annotations

import math

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.rkd import RelationalLoss


@pytest.fixture
def embeddings():
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(5, 3, generator=generator, dtype=torch.float64),
        torch.randn(5, 7, generator=generator, dtype=torch.float64),
    )


def smooth_l1(a, b):
    x = abs(a - b)
    return 0.5 * x * x if x < 1 else x - 0.5


def by_loop(rows):
    """Relative distances and cosines, by index."""
    count = len(rows)

    def direction(i, j):
        difference = [y - x for x, y in zip(rows[i], rows[j])]
        return difference, math.sqrt(sum(d * d for d in difference))

    distances = {(i, j): direction(i, j)[1] for i in range(count) for j in range(count)}
    mean = sum(distances.values()) / (count * (count - 1))
    cosines = {}
    for i in range(count):
        for j in range(count):
            for k in range(count):
                (a, length_a), (b, length_b) = direction(i, j), direction(i, k)
                dot = sum(x * y for x, y in zip(a, b))
                cosines[i, j, k] = dot / (length_a * length_b) if i not in (j, k) else 0.0
    return {key: value / mean for key, value in distances.items()}, cosines


@pytest.mark.parametrize(("average", "pairs", "triples"), [("all", 25, 125), ("distinct", 20, 60)])
def test_equals_the_formula_as_a_loop(embeddings, average, pairs, triples):
    (d_s, a_s), (d_t, a_t) = (by_loop(e.tolist()) for e in embeddings)
    terms = RelationalLoss(distance_weight=3.0, angle_weight=7.0, average=average).terms(*embeddings)
    distance = 3 * sum(smooth_l1(d_s[key], d_t[key]) for key in d_s) / pairs
    # Of j = k the angle is 0 in both, so leaving those triples out changes the divisor only.
    angle = 7 * sum(smooth_l1(a_s[key], a_t[key]) for key in a_s) / triples
    assert terms["distance"].item() == pytest.approx(distance, rel=1e-12)
    assert terms["angle"].item() == pytest.approx(angle, rel=1e-12)


def test_ignores_rotation_offset_and_scale(embeddings):
    teacher = embeddings[1]
    rotation, _ = torch.linalg.qr(torch.randn(7, 7, dtype=torch.float64))
    value = RelationalLoss()(5 * teacher @ rotation + 3, teacher)
    torch.testing.assert_close(value, torch.zeros_like(value), rtol=0, atol=1e-12)


def test_a_large_offset_costs_little_in_single_precision(embeddings):
    student, teacher = embeddings
    exact = RelationalLoss()(student, teacher)
    moved = RelationalLoss()((student + 1000).float(), teacher.float())
    torch.testing.assert_close(moved.double(), exact, rtol=1e-3, atol=0)


def test_equal_samples_give_no_gradient_where_it_would_be_infinite(embeddings):
    student, teacher = (e.clone() for e in embeddings)
    student[3] = student[0]
    student.requires_grad_()
    value = RelationalLoss()(student, teacher)
    value.backward()
    assert value.isfinite()
    assert student.grad.abs().max() < 100


@pytest.mark.parametrize("samples", [1, 2, 4])
def test_collapsed_embeddings_stay_finite(samples):
    student = torch.ones(samples, 3, requires_grad=True)
    value = RelationalLoss()(student, torch.randn(samples, 7))
    value.backward()
    assert value.isfinite()
    assert not student.grad.any()
    assert RelationalLoss()(torch.randn(samples, 3), torch.ones(samples, 7)).isfinite()


def test_few_samples_have_no_relations_to_learn():
    for samples in (1, 2):
        value = RelationalLoss()(torch.randn(samples, 3), torch.randn(samples, 7))
        assert value.item() == pytest.approx(0, abs=1e-10)
        assert RelationalLoss(average="distinct")(torch.randn(samples, 3), torch.randn(samples, 7)) < 1e-10


def test_refuses_what_is_out_of_range():
    with pytest.raises(PursuhintError, match="angle_weight must not be negative, got -1"):
        RelationalLoss(angle_weight=-1.0)
    with pytest.raises(PursuhintError, match="eps must be positive, got 0"):
        RelationalLoss(eps=0.0)
    with pytest.raises(PursuhintError, match="different batches"):
        RelationalLoss()(torch.zeros(4, 3), torch.zeros(5, 7))
