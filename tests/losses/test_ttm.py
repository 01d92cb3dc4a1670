"""Transformed teacher matching against a slow transcription, and facts of the method."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses.kd import soft_target_divergence
from pursuhint.losses.ttm import TransformedTeacherLoss
from tests.losses.test_nkd import logits, softmax


def slow(student, teacher, gamma):
    total = 0.0
    for z_s, z_t in zip(student.tolist(), teacher.tolist()):
        powers = [p**gamma for p in softmax(z_t)]
        target = [power / sum(powers) for power in powers]
        total += sum(p * math.log(p / q) for p, q in zip(target, softmax(z_s)))
    return total / len(student)


@pytest.mark.parametrize("gamma", [0.1, 0.5, 2.0])
def test_is_the_formula(gamma):
    value = TransformedTeacherLoss(gamma=gamma)(*logits())
    assert value.item() == pytest.approx(slow(*logits(), gamma), rel=1e-12)


def test_a_power_of_one_is_kd_at_temperature_one():
    value = TransformedTeacherLoss(gamma=1.0)(*logits())
    torch.testing.assert_close(value, soft_target_divergence(*logits(), 1.0))


def test_is_met_by_the_softened_teacher():
    _, teacher = logits()
    assert TransformedTeacherLoss(gamma=0.25)(F.log_softmax(teacher / 4, 1), teacher).abs() < 1e-12


def test_the_power_must_be_positive():
    with pytest.raises(PursuhintError, match="gamma"):
        TransformedTeacherLoss(gamma=0.0)
