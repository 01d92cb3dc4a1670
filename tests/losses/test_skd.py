"""Spherical distillation: three normalisations of one idea."""

from __future__ import annotations

import math
from typing import get_args

import pytest
import torch
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses.skd import SphericalLoss, SphericalNormalization

NORMALIZATIONS = get_args(SphericalNormalization)


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)


@pytest.fixture(params=NORMALIZATIONS)
def loss(request):
    return SphericalLoss(normalization=request.param)


LABELS = torch.tensor([0, 6, 3, 3, 1])


def normalized_by_loop(student, teacher, normalization, multiplier=2.0, eps=1e-7):
    def length(z):
        return math.sqrt(sum(x * x for x in z))

    def variance(z, divisor):
        mean = sum(z) / len(z)
        return sum((x - mean) ** 2 for x in z) / divisor

    radius = sum(length(z) for z in teacher) / len(teacher)
    a, b = [], []
    for z_s, z_t in zip(student, teacher):
        if normalization == "unit_norm_mean_teacher_norm":
            a.append([radius * x / length(z_s) for x in z_s])
            b.append([radius * x / length(z_t) for x in z_t])
        elif normalization == "std_rescale":
            ratio = math.sqrt(variance(z_t, len(z_t) - 1) / variance(z_s, len(z_s) - 1))
            a.append([ratio * x for x in z_s])
            b.append(z_t)
        else:
            for source, target in ((z_s, a), (z_t, b)):
                mean, scale = sum(source) / len(source), math.sqrt(variance(source, len(source)) + eps)
                target.append([multiplier * (x - mean) / scale for x in source])
    return torch.tensor(a, dtype=torch.float64), torch.tensor(b, dtype=torch.float64)


def test_equals_the_formula_as_a_loop(loss, logits):
    student, teacher = logits
    a, b = normalized_by_loop(student.tolist(), teacher.tolist(), loss.normalization)
    p, q = (b / 4).softmax(1), (a / 4).softmax(1)
    expected = 0.9 * 16 * (p * (p / q).log()).sum() / 5 + 0.1 * F.cross_entropy(a, LABELS)
    torch.testing.assert_close(loss(student, teacher, LABELS), expected, rtol=1e-12, atol=0)


def test_length_of_the_students_logits_does_not_matter(loss, logits):
    student, teacher = logits
    loss.eps = 1e-30
    torch.testing.assert_close(loss(student, teacher, LABELS), loss(7 * student, teacher, LABELS))


def test_predictions_do_not_change(loss, logits):
    student, teacher = loss.normalize(*logits)
    assert torch.equal(student.argmax(1), logits[0].argmax(1))
    assert torch.equal(teacher.argmax(1), logits[1].argmax(1))


def test_same_direction_leaves_only_classification(loss, logits):
    terms = loss.terms(0.5 * logits[1], logits[1], LABELS)
    torch.testing.assert_close(terms["kd"], torch.zeros_like(terms["kd"]), rtol=0, atol=1e-9)
    assert terms["ce"] > 0


def test_normalised_logits_lie_on_the_teachers_mean_sphere(logits):
    loss = SphericalLoss()
    for side in loss.normalize(*logits):
        torch.testing.assert_close(side.norm(dim=1), loss.radius(logits[1]).expand(5))


@pytest.mark.parametrize("value", [0.0, 0.1, -1e3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_logits_stay_finite(loss, value, dtype):
    teacher = torch.randn(5, 7, generator=torch.Generator().manual_seed(1), dtype=dtype)
    student = teacher.clone()
    student[2] = value
    student.requires_grad_()
    result = loss(student, teacher, LABELS)
    result.backward()
    assert result.isfinite()
    assert student.grad.isfinite().all()
    assert student.grad.abs().max() < 1e5
    assert loss(student.detach(), torch.full_like(teacher, value), LABELS).isfinite()


def test_saturated_logits_stay_finite(loss):
    student = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    result = loss(student, torch.tensor([[-1e4, 0.0, 1e4]]), torch.tensor([2]))
    result.backward()
    assert result.isfinite()
    assert student.grad.isfinite().all()


def test_the_radius_may_be_a_running_average(logits):
    student, teacher = logits
    loss, plain = SphericalLoss(radius_momentum=0.75).to(student.dtype), SphericalLoss()
    first, second = plain.radius(teacher), plain.radius(3 * teacher)
    assert loss.radius(teacher) == first
    torch.testing.assert_close(loss.radius(3 * teacher), 0.75 * first + 0.25 * second)
    torch.testing.assert_close(loss.running_radius, 1.5 * first)
    loss.eval()
    torch.testing.assert_close(loss.radius(teacher), 1.5 * first)
    assert loss(student, teacher, LABELS).isfinite()
    assert not list(plain.buffers())
    with pytest.raises(PursuhintError, match="radius_momentum must be at least 0 and below 1, got 1"):
        SphericalLoss(radius_momentum=1.0)


def test_contains_the_classification_term():
    assert SphericalLoss.info.contains_classification


def test_refuses_what_is_out_of_range():
    with pytest.raises(PursuhintError, match=r"alpha must be in \[0, 1\], got 1.5"):
        SphericalLoss(alpha=1.5)
    with pytest.raises(PursuhintError, match="multiplier must be positive, got 0"):
        SphericalLoss(multiplier=0.0)
    with pytest.raises(PursuhintError, match=r"normalization must be one of unit_norm.*; got 'cube'"):
        SphericalLoss(normalization="cube")


def test_weight_of_the_divergence_on_imagenet():
    steps = {0: 0.9, 59: 0.9, 60: 0.5, 79: 0.5, 80: 0.1, 99: 0.1}
    loss, constant = SphericalLoss(alpha_schedule="imagenet"), SphericalLoss()
    student, teacher, labels = torch.randn(3, 5), torch.randn(3, 5), torch.tensor([0, 4, 2])
    alone = SphericalLoss(alpha=1.0)(student, teacher, labels)
    for epoch, alpha in steps.items():
        loss.begin_epoch(epoch, 100)
        constant.begin_epoch(epoch, 100)
        torch.testing.assert_close(loss.terms(student, teacher, labels)["kd"], alpha * alone)
        torch.testing.assert_close(constant.terms(student, teacher, labels)["kd"], 0.9 * alone)
