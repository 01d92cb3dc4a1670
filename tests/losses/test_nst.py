"""Neuron selectivity transfer."""

from __future__ import annotations

import math

import pytest
import torch

from pursuhint.losses.nst import NeuronSelectivityLoss


@pytest.fixture
def loss():
    return NeuronSelectivityLoss()


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def units_by_loop(features):
    """Per sample a list of channel maps of unit length."""
    result = []
    for sample in features.flatten(2).tolist():
        result.append([[x / math.sqrt(sum(y * y for y in row)) for x in row] for row in sample])
    return result


def kernel_by_loop(a, b):
    total = 0.0
    for x, y in zip(a, b):
        total += sum(sum(p * q for p, q in zip(c, d)) ** 2 for c in x for d in y) / (len(x) * len(y))
    return total / len(a)


@pytest.mark.parametrize("size", [(1, 2), (3, 4)])  # fewer positions than channels, and more
def test_equals_the_formula_as_a_loop(loss, size):
    student, teacher = draw(2, 3, *size), draw(2, 5, *size, seed=1)
    s, t = units_by_loop(student), units_by_loop(teacher)
    expected = kernel_by_loop(t, t) + kernel_by_loop(s, s) - 2 * kernel_by_loop(s, t)
    assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [(1, 2), (3, 4)])
def test_order_sign_and_strength_of_channels_do_not_matter(loss, size):
    teacher = draw(2, 4, *size)
    factors = torch.tensor([2.0, -0.5, 9.0, -1.0]).double()[:, None, None]
    student = (teacher * factors)[:, [2, 0, 3, 1]]
    assert loss(student, teacher).item() == pytest.approx(0, abs=1e-12)
    twice = teacher.repeat(1, 2, 1, 1)
    assert loss(twice, teacher).item() == pytest.approx(0, abs=1e-12)


def test_the_larger_map_is_averaged_down_whatever_its_shape(loss):
    student, teacher = draw(2, 3, 4, 6), draw(2, 5, 2, 3, seed=1)
    pooled = student.unflatten(3, (3, 2)).unflatten(2, (2, 2)).mean((3, 5))
    torch.testing.assert_close(loss(student, teacher), loss(pooled, teacher))


def test_is_at_most_two(loss):
    student, teacher = torch.zeros(1, 1, 1, 2), torch.zeros(1, 1, 1, 2)
    student[..., 0], teacher[..., 1] = 3.0, 5.0
    assert loss(student, teacher).item() == pytest.approx(2.0)


@pytest.mark.parametrize("size", [(1, 2), (3, 4)])
def test_dead_channels_stay_finite(loss, size):
    student = draw(2, 3, *size).float()
    student[:, 1] = 0
    student.requires_grad_()
    value = loss(student, torch.zeros(2, 5, *size))
    value.backward()
    assert value.isfinite()
    assert student.grad.abs().max() < 10
    assert not student.grad[:, 1].any()


def test_tokens_can_be_compared(loss):
    assert loss(draw(2, 6, 3), draw(2, 6, 5)).isfinite()
