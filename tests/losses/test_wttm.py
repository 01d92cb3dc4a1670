"""Weighted transformed teacher matching against a slow transcription, and facts of the method."""

from __future__ import annotations

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.ttm import TransformedTeacherLoss
from pursuhint.losses.wttm import WeightedTransformedTeacherLoss
from tests.losses import test_ttm
from tests.losses.test_nkd import logits, softmax


@pytest.mark.parametrize("gamma", [0.2, 0.7, 1.5])
def test_is_the_formula(gamma):
    student, teacher = logits()
    expected = 0.0
    for own, other in zip(student, teacher):
        weight = sum(p**gamma for p in softmax(other.tolist()))
        expected += weight * test_ttm.slow(own[None], other[None], gamma)
    value = WeightedTransformedTeacherLoss(gamma=gamma)(student, teacher)
    assert value.item() == pytest.approx(expected / len(student), rel=1e-12)


def test_a_teacher_that_knows_nothing_counts_most():
    student = logits()[0]
    classes = student.shape[1]
    even, sure = torch.zeros_like(student), torch.zeros_like(student)
    sure[:, 0] = 200.0
    for teacher, weight in ((even, classes**0.8), (sure, 1.0)):
        ratio = WeightedTransformedTeacherLoss()(student, teacher) / TransformedTeacherLoss(gamma=0.2)(
            student, teacher
        )
        assert ratio.item() == pytest.approx(weight, rel=1e-9)


def test_the_power_must_be_positive():
    with pytest.raises(PursuhintError, match="gamma"):
        WeightedTransformedTeacherLoss(gamma=-0.2)
