"""Refined logit distillation against a slow transcription, and facts of the method."""

from __future__ import annotations

import math

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.rld import RefinedLogitLoss
from tests.losses.test_nkd import LABELS, logits, softmax


def slow(student, teacher, labels, alpha, beta, temperature, confidence_temperature):
    confidence = correlation = 0.0
    for z_s, z_t, y in zip(student.tolist(), teacher.tolist(), labels.tolist()):
        p = max(softmax([z / confidence_temperature for z in z_t]))
        q = softmax([z / confidence_temperature for z in z_s])[y]
        confidence += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
        below = [k for k, z in enumerate(z_t) if z < z_t[y]]
        if below:
            own, other = (softmax([z[k] / temperature for k in below]) for z in (z_s, z_t))
            correlation += sum(a * math.log(a / b) for a, b in zip(other, own))
    count = len(labels)
    return (
        alpha * confidence_temperature**2 * confidence / count,
        beta * temperature**2 * correlation / count,
    )


@pytest.mark.parametrize("values", [(1.0, 8.0, 4.0, 1.0), (0.5, 2.0, 1.0, 3.0)])
def test_is_the_formula(values):
    names = ("alpha", "beta", "temperature", "confidence_temperature")
    loss = RefinedLogitLoss(**dict(zip(names, values)))
    found = loss.terms(*logits(), LABELS)
    assert list(found) == ["confidence", "correlation"]
    expected = slow(*logits(), LABELS, *values)
    assert [term.item() for term in found.values()] == pytest.approx(expected, rel=1e-11)


def test_what_the_teacher_scores_above_the_label_is_not_taught():
    student, teacher = logits()
    above = teacher > teacher.gather(1, LABELS[:, None])
    changed = teacher + above * torch.rand(teacher.shape, generator=torch.Generator().manual_seed(1))
    terms = [RefinedLogitLoss().terms(student, one, LABELS)["correlation"] for one in (teacher, changed)]
    assert above.any()
    torch.testing.assert_close(*terms, rtol=1e-12, atol=0)


def test_a_sample_whose_label_is_the_teachers_last_class_counts_as_zero():
    student, teacher = logits()
    worst = teacher.argmin(1)
    student = student.detach().requires_grad_()
    value = RefinedLogitLoss(alpha=0.0)(student, teacher, worst)
    value.backward()
    assert value.item() == 0
    assert student.grad.eq(0).all()


def test_grows_over_the_first_epochs():
    loss = RefinedLogitLoss()
    whole = loss(*logits(), LABELS)
    loss.begin_epoch(4, 240)
    torch.testing.assert_close(loss(*logits(), LABELS), whole / 4)


@pytest.mark.parametrize(
    "options", [{"alpha": -1.0}, {"beta": -1.0}, {"temperature": 0.0}, {"confidence_temperature": 0.0}]
)
def test_values_out_of_range_are_refused(options):
    with pytest.raises(PursuhintError, match=next(iter(options))):
        RefinedLogitLoss(**options)
