from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses.wsld import WeightedSoftLabelLoss

LABELS = torch.tensor([0, 6, 3, 3, 1])


@pytest.fixture
def logits():
    generator = torch.Generator().manual_seed(0)
    return 3 * torch.randn(2, 5, 7, generator=generator, dtype=torch.float64)


def probabilities(scores, temperature):
    total = sum(math.exp(score / temperature) for score in scores)
    return [math.exp(score / temperature) / total for score in scores]


def slow(student, teacher, labels, temperature, alpha, eps):
    classification = soft = 0.0
    for z_s, z_t, y in zip(student.tolist(), teacher.tolist(), labels.tolist()):
        ce_s, ce_t = -math.log(probabilities(z_s, 1)[y]), -math.log(probabilities(z_t, 1)[y])
        weight = 1 - math.exp(-max(ce_s / (ce_t + eps), 0))
        p, q = probabilities(z_t, temperature), probabilities(z_s, temperature)
        classification += ce_s / len(labels)
        soft -= weight * sum(a * math.log(b) for a, b in zip(p, q)) / len(labels)
    return classification, alpha * temperature**2 * soft


@pytest.mark.parametrize(
    ("temperature", "alpha", "eps"), [(2.0, 2.5, 1e-7), (1.0, 0.3, 0.1), (7.0, 0.0, 1e-3)]
)
def test_is_the_formula(logits, temperature, alpha, eps):
    loss = WeightedSoftLabelLoss(temperature=temperature, alpha=alpha, eps=eps)
    terms = loss.terms(*logits, LABELS)
    expected = slow(*logits, LABELS, temperature, alpha, eps)
    assert list(terms) == ["cross_entropy", "soft"]
    torch.testing.assert_close([term.item() for term in terms.values()], list(expected), rtol=1e-12, atol=0)
    torch.testing.assert_close(loss(*logits, LABELS).item(), sum(expected), rtol=1e-12, atol=0)


def test_samples_that_the_student_knows_better_count_less(logits):
    loss, (student, teacher) = WeightedSoftLabelLoss(), logits
    sure = 50 * F.one_hot(LABELS, 7).double()
    assert loss.weights(sure, teacher, LABELS).max() < 1e-10
    assert loss.weights(student, sure, LABELS).min() > 0.99
    torch.testing.assert_close(
        loss.weights(teacher, teacher, LABELS), torch.full((5,), 1 - math.exp(-1)).double(), rtol=1e-5, atol=0
    )


def test_weights_are_constants(logits):
    loss, (student, teacher) = WeightedSoftLabelLoss(alpha=1.0, temperature=1.0), logits
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(loss.terms(student, teacher, LABELS)["soft"], student)
    weights = loss.weights(student, teacher, LABELS)[:, None]
    torch.testing.assert_close(gradient, weights * (student.softmax(1) - teacher.softmax(1)) / 5)


@pytest.mark.parametrize("scale", [1e4, 1e30])
def test_saturated_logits_are_finite(logits, scale):
    student, teacher = (scale * logits).float().unbind()
    value = WeightedSoftLabelLoss()(student.requires_grad_(), teacher, LABELS)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


def test_says_what_is_wrong(logits):
    with pytest.raises(PursuhintError, match="needs the same classes"):
        WeightedSoftLabelLoss()(logits[0], logits[1][:, :6], LABELS)
    for options in ({"temperature": 0.0}, {"alpha": -1.0}, {"eps": 0.0}):
        with pytest.raises(PursuhintError, match=next(iter(options))):
            WeightedSoftLabelLoss(**options)
