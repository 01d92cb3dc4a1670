from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses.dkd import DecoupledLoss
from pursuhint.losses.kd import soft_target_divergence

LABELS = torch.tensor([0, 6, 3, 3, 1])


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)


def probabilities(scores):
    total = sum(math.exp(score) for score in scores)
    return [math.exp(score) / total for score in scores]


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q) if a > 0)


def slow(student, teacher, labels, temperature, alpha, beta):
    target = non_target = 0.0
    for z_s, z_t, y in zip(student.tolist(), teacher.tolist(), labels.tolist()):
        both = []
        for z in (z_s, z_t):
            z = [score / temperature for score in z]
            p = probabilities(z)
            rest = sum(value for k, value in enumerate(p) if k != y)
            both.append(((p[y], rest), probabilities([score - 1000 * (k == y) for k, score in enumerate(z)])))
        target += divergence(both[1][0], both[0][0])
        non_target += divergence(both[1][1], both[0][1])
    scale = temperature**2 / len(labels)
    return alpha * scale * target, beta * scale * non_target


@pytest.mark.parametrize(
    ("temperature", "alpha", "beta"), [(4.0, 1.0, 8.0), (1.0, 0.3, 2.0), (2.5, 0.0, 6.0)]
)
@pytest.mark.parametrize("classes", [7, 2])
def test_is_the_formula(logits, classes, temperature, alpha, beta):
    logits, labels = logits[:, :, :classes], LABELS % classes
    loss = DecoupledLoss(temperature=temperature, alpha=alpha, beta=beta)
    terms = loss.terms(*logits, labels)
    expected = slow(*logits, labels, temperature, alpha, beta)
    assert list(terms) == ["target", "non_target"]
    torch.testing.assert_close(
        [term.item() for term in terms.values()], list(expected), rtol=1e-11, atol=1e-13
    )
    torch.testing.assert_close(loss(*logits, labels).item(), sum(expected), rtol=1e-11, atol=0)


def test_soft_targets_weigh_the_other_classes_by_the_teachers_doubt(logits):
    student, teacher = logits
    doubt = 1 - (teacher / 4).softmax(1).gather(1, LABELS[:, None])[:, 0]
    parts = []
    for i in range(5):
        one = student[i : i + 1], teacher[i : i + 1], LABELS[i : i + 1]
        target, non_target = DecoupledLoss(beta=1.0).terms(*one).values()
        parts.append(target + doubt[i] * non_target)
    torch.testing.assert_close(torch.stack(parts).mean(), soft_target_divergence(student, teacher, 4.0))


def test_shifting_logits_changes_nothing(logits):
    loss, (student, teacher) = DecoupledLoss(), logits
    torch.testing.assert_close(loss(student + 5, teacher - 3, LABELS), loss(student, teacher, LABELS))
    assert loss(teacher, teacher, LABELS).abs() < 1e-14


@pytest.mark.parametrize("scale", [100.0, 1e4, 1e30])
def test_saturated_logits_are_finite(logits, scale):
    student, teacher = (scale * logits).float().unbind()
    value = DecoupledLoss()(student.requires_grad_(), teacher, LABELS)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


def test_a_student_that_is_sure_of_the_wrong_class_is_corrected():
    student = 1e4 * F.one_hot(torch.tensor([1]), 4).float()
    teacher = 1e4 * F.one_hot(torch.tensor([0]), 4).float()
    loss = DecoupledLoss(temperature=1.0, beta=0.0)
    value = loss(student.requires_grad_(), teacher, torch.tensor([0]))
    value.backward()
    torch.testing.assert_close(value.detach(), torch.tensor(1e4))
    torch.testing.assert_close(student.grad, torch.tensor([[-1.0, 1.0, 0.0, 0.0]]))


def test_grows_over_the_first_epochs(logits):
    full = DecoupledLoss()(*logits, LABELS)
    loss = DecoupledLoss(ramp_epochs=4)
    for epoch, factor in ((0, 0.25), (1, 0.5), (3, 1.0), (10, 1.0)):
        loss.begin_epoch(epoch, 240)
        torch.testing.assert_close(loss(*logits, LABELS), factor * full)
    loss = DecoupledLoss(ramp_epochs=0)
    loss.begin_epoch(0, 240)
    assert loss(*logits, LABELS) == full


def test_says_what_is_wrong(logits):
    with pytest.raises(PursuhintError, match="needs the same classes"):
        DecoupledLoss()(logits[0], logits[1][:, :6], LABELS)
    for options in ({"temperature": 0.0}, {"alpha": -1.0}, {"beta": -1.0}, {"ramp_epochs": -1}):
        with pytest.raises(PursuhintError, match=next(iter(options))):
            DecoupledLoss(**options)


def test_standardized_logits_are_compared_as_others_are(logits):
    z = [(z - z.mean(1, keepdim=True)) / (z.std(1, keepdim=True) + 1e-7) for z in logits]
    found = DecoupledLoss(standardize=True).terms(*logits, LABELS)
    expected = slow(*z, LABELS, 4.0, 1.0, 8.0)
    torch.testing.assert_close([term.item() for term in found.values()], list(expected), rtol=1e-10, atol=0)
