"""Attention transfer."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.features.axes import features_at
from pursuhint.features.tap import ReducedTap
from pursuhint.losses.at import AttentionTransferLoss, attention_map


@pytest.fixture
def features():
    generator = torch.Generator().manual_seed(0)
    return (
        torch.randn(3, 4, 4, 4, generator=generator, dtype=torch.float64),
        torch.randn(3, 6, 4, 4, generator=generator, dtype=torch.float64),
    )


def attention_by_loop(features, p, absolute):
    samples, channels, height, width = features.shape
    maps = []
    for n in range(samples):
        flat = []
        for h in range(height):
            for w in range(width):
                values = [features[n, c, h, w].item() for c in range(channels)]
                flat.append(sum((abs(x) if absolute else x) ** p for x in values) / channels)
        length = math.sqrt(sum(x * x for x in flat))
        maps.append([x / length for x in flat])
    return maps


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_equals_the_formula_as_a_loop(features, p, absolute):
    student, teacher = features
    pairs = zip(attention_by_loop(student, p, absolute), attention_by_loop(teacher, p, absolute))
    expected = sum((a - b) ** 2 for s, t in pairs for a, b in zip(s, t)) / (3 * 16)
    value = AttentionTransferLoss(p=p, absolute=absolute)(student, teacher)
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_sign_matters_only_for_odd_exponents_without_absolute_values(features):
    student, teacher = features
    for p, absolute, same in ((2, False, True), (3, False, False), (3, True, True)):
        loss = AttentionTransferLoss(p=p, absolute=absolute)
        assert torch.isclose(loss(student, teacher), loss(-student, teacher)).item() is same


def test_channels_are_interchangeable_and_scale_does_not_matter(features):
    student, teacher = features
    loss = AttentionTransferLoss()
    torch.testing.assert_close(loss(student, teacher), loss(5 * student[:, [2, 0, 3, 1]], teacher))


def test_a_student_that_looks_where_the_teacher_looks_has_nothing_to_learn(features):
    teacher = features[1]
    loss = AttentionTransferLoss()(0.1 * teacher[:, torch.randperm(6)], teacher)
    torch.testing.assert_close(loss, torch.zeros_like(loss))


def test_looking_elsewhere_reaches_the_stated_maximum():
    student, teacher = torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2)
    student[..., 0, 0], teacher[..., 1, 1] = 1.0, 1.0
    value = AttentionTransferLoss(p=1)(student, -teacher)
    torch.testing.assert_close(value, torch.tensor(2 / 4))
    torch.testing.assert_close(AttentionTransferLoss(p=1)(student, -student), torch.tensor(4 / 4))


def test_larger_maps_are_averaged_before_anything_else(features):
    student, teacher = features
    loss = AttentionTransferLoss()
    small = F.avg_pool2d(teacher, 2)
    torch.testing.assert_close(loss(student, small), loss(F.avg_pool2d(student, 2), small))
    torch.testing.assert_close(loss(small, student), loss(small, F.avg_pool2d(student, 2)))


def test_rectangular_maps_keep_their_shape():
    student, teacher = torch.randn(2, 3, 4, 12), torch.randn(2, 5, 2, 6)
    loss = AttentionTransferLoss()
    torch.testing.assert_close(loss(student, teacher), loss(F.avg_pool2d(student, 2), teacher))


@pytest.mark.parametrize("p", [1, 2, 3])
def test_zero_maps_stay_finite(p):
    student = torch.zeros(2, 3, 4, 4, requires_grad=True)
    loss = AttentionTransferLoss(p=p)(student, torch.randn(2, 5, 4, 4))
    loss.backward()
    assert loss.isfinite()
    assert student.grad.isfinite().all()
    assert not attention_map(torch.zeros(2, 3, 4, 4)).any()


def test_refuses_other_batches():
    with pytest.raises(PursuhintError, match="different batches: 2 and 3 samples"):
        AttentionTransferLoss()(torch.zeros(3, 1, 2, 2), torch.zeros(2, 1, 2, 2))


def test_refuses_an_exponent_of_zero():
    with pytest.raises(PursuhintError, match="p must be positive, got 0"):
        AttentionTransferLoss(p=0)


def test_euclidean_distances_as_the_paper_writes_them(features):
    student, teacher = features
    pairs = zip(attention_by_loop(student, 2, False), attention_by_loop(teacher, 2, False))
    expected = sum(math.sqrt(sum((a - b) ** 2 for a, b in zip(s, t))) for s, t in pairs) / 2 / 3
    value = AttentionTransferLoss(distance="euclidean")(student, teacher)
    assert value.item() == pytest.approx(expected, rel=1e-12)


def test_equal_maps_have_a_euclidean_gradient_of_zero(features):
    student = features[0].clone().requires_grad_()
    AttentionTransferLoss(distance="euclidean")(student, features[0]).backward()
    assert not student.grad.any()


@pytest.mark.parametrize("shape", [(3, 6, 4, 4), (3, 16, 6), (3, 6)], ids=["map", "tokens", "vector"])
def test_the_root_mean_square_of_the_teachers_channels_is_all_that_is_read(shape):
    generator = torch.Generator().manual_seed(1)
    student, teacher = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    reduced = features_at(ReducedTap("layer"), teacher)
    assert reduced.numel() * 6 == teacher.numel()
    for options in ({}, {"absolute": True}, {"distance": "euclidean"}):
        loss = AttentionTransferLoss(**options)
        assert AttentionTransferLoss.reads_energy(options)
        torch.testing.assert_close(loss(student, reduced), loss(student, teacher))
    assert not AttentionTransferLoss.reads_energy({"p": 4})


def test_the_root_mean_square_is_that_of_the_formula_in_half_precision_too():
    values = torch.full((1, 8, 1, 1), 6e4, dtype=torch.float16)
    values[:, ::2] = 0
    assert features_at(ReducedTap("layer"), values).item() == pytest.approx(6e4 / math.sqrt(2), rel=1e-3)
