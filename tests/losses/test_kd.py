"""Soft targets, and cross-entropy, which they are usually added to."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses.ce import CrossEntropyLoss
from pursuhint.losses.kd import SoftTargetLoss


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(2, 6, 10, generator=generator, dtype=torch.float64)


def test_equals_the_formula_as_a_loop(logits):
    student, teacher = logits
    temperature = 2.5
    total = 0.0
    for z_s, z_t in zip(student.tolist(), teacher.tolist()):
        q = [math.exp(z / temperature) for z in z_s]
        p = [math.exp(z / temperature) for z in z_t]
        total += sum(a / sum(p) * math.log((a / sum(p)) / (b / sum(q))) for a, b in zip(p, q))
    expected = temperature**2 * total / len(student)
    assert SoftTargetLoss(temperature=temperature)(student, teacher).item() == pytest.approx(
        expected, rel=1e-12
    )


def test_a_student_like_the_teacher_has_nothing_to_learn(logits):
    teacher = logits[1]
    student = (
        teacher + torch.randn(6, 1, dtype=torch.float64)
    ).requires_grad_()  # probabilities ignore a shift
    loss = SoftTargetLoss()(student, teacher)
    loss.backward()
    torch.testing.assert_close(loss, torch.zeros_like(loss))
    torch.testing.assert_close(student.grad, torch.zeros_like(student))


def test_gradient_keeps_its_scale_at_high_temperature(logits):
    student, teacher = (z - z.mean(1, keepdim=True) for z in logits)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(SoftTargetLoss(temperature=1e4)(student, teacher), student)
    expected = (student - teacher).detach() / (10 * 6)  # Hinton et al., eq. 4, averaged over the batch
    torch.testing.assert_close(gradient, expected, rtol=1e-2, atol=1e-4)


def test_saturated_logits_stay_finite():
    student = torch.tensor([[1e4, 0.0, -1e4]], requires_grad=True)
    loss = SoftTargetLoss(temperature=1.0)(student, torch.tensor([[-1e4, 0.0, 1e4]]))
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    torch.testing.assert_close(student.grad, torch.tensor([[1.0, 0.0, -1.0]]))


def test_refuses_other_classes():
    with pytest.raises(PursuhintError, match="teacher has 100 classes, student 10; KD compares logits"):
        SoftTargetLoss()(torch.zeros(2, 10), torch.zeros(2, 100))


def test_refuses_other_batches():
    with pytest.raises(PursuhintError, match="different batches: 8 and 4 samples"):
        SoftTargetLoss()(torch.zeros(4, 10), torch.zeros(8, 10))


@pytest.mark.parametrize("temperature", [0.0, -4.0, math.nan])
def test_refuses_a_temperature_that_is_not_positive(temperature):
    with pytest.raises(PursuhintError, match="temperature must be positive"):
        SoftTargetLoss(temperature=temperature)


def test_cross_entropy_is_the_negative_log_probability_of_the_label(logits):
    student = logits[0]
    labels = torch.tensor([0, 3, 9, 1, 1, 4])
    expected = -student.softmax(1).log()[torch.arange(6), labels].mean()
    torch.testing.assert_close(CrossEntropyLoss()(student, labels), expected)


def test_smoothed_labels_spread_probability(logits):
    student = logits[0]
    labels = torch.tensor([0, 3, 9, 1, 1, 4])
    target = 0.8 * F.one_hot(labels, 10) + 0.2 / 10
    expected = -(target * student.log_softmax(1)).sum(1).mean()
    torch.testing.assert_close(CrossEntropyLoss(label_smoothing=0.2)(student, labels), expected)


def test_refuses_to_smooth_labels_away():
    with pytest.raises(PursuhintError, match="label_smoothing must be in"):
        CrossEntropyLoss(label_smoothing=1.0)


def test_cross_entropy_with_soft_targets_is_larger_by_the_teachers_entropy(logits):
    student, teacher = logits
    student = student.detach().clone().requires_grad_()
    divergence = SoftTargetLoss(temperature=3.0)(student, teacher)
    crossed = SoftTargetLoss(temperature=3.0, measure="cross-entropy")(student, teacher)
    p = (teacher / 3).softmax(1)
    torch.testing.assert_close(crossed - divergence, -9 * (p * p.log()).sum(1).mean())
    gradients = [torch.autograd.grad(value, student)[0] for value in (divergence, crossed)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("measure", ["divergence", "cross-entropy"])
def test_standardized_logits_do_not_depend_on_scale_and_shift(measure):
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)
    loss = SoftTargetLoss(temperature=2.0, measure=measure, standardize=True)
    value = loss(student, teacher)
    torch.testing.assert_close(loss(3 * student + 4, 0.2 * teacher - 1), value, rtol=1e-6, atol=0)
    z = [(z - z.mean(1, keepdim=True)) / (z.std(1, keepdim=True) + 1e-7) for z in (student, teacher)]
    expected = SoftTargetLoss(temperature=2.0, measure=measure)(*z)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    assert not torch.isclose(SoftTargetLoss(temperature=2.0, measure=measure)(student, teacher), value)
