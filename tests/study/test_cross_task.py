"""Measures of a student whose teacher knew other classes."""

from __future__ import annotations

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.refilled_stage2 import class_centers
from pursuhint.study.cross_task import (
    JointAccuracy,
    area_under_curve,
    joint_accuracy,
    nearest_center_accuracy,
)


def test_joint_accuracy_counts_both_kinds_apart():
    scores = torch.eye(4)[[0, 1, 2, 3, 0, 0]]
    labels = torch.tensor([0, 1, 2, 3, 3, 1])
    result = joint_accuracy(scores, labels, torch.tensor([0, 1]))
    assert (result.old, result.current) == (pytest.approx(2 / 3), pytest.approx(2 / 3))
    assert result.harmonic_mean == pytest.approx(2 / 3)


def test_harmonic_mean():
    assert JointAccuracy(0.5, 0.25).harmonic_mean == pytest.approx(1 / 3)
    assert JointAccuracy(1.0, 0.0).harmonic_mean == 0
    assert JointAccuracy(0.0, 0.0).harmonic_mean == 0


def test_joint_accuracy_needs_both_kinds():
    for old in ([], [0, 1, 2]):
        with pytest.raises(PursuhintError, match="needs samples of old and of other classes"):
            joint_accuracy(torch.eye(3), torch.arange(3), torch.tensor(old))


def test_nearest_center():
    embedding = torch.tensor([[1.0, 0.1], [0.9, 0.0], [0.1, 1.0], [1.0, 0.9]])
    labels = torch.tensor([0, 0, 1, 1])
    centers = class_centers(embedding[:3], labels[:3], 2)
    assert nearest_center_accuracy(embedding, labels, centers) == 0.75


def test_area_under_curve_counts_pairs():
    torch.manual_seed(0)
    values, positive = torch.randint(0, 6, (30,)).float(), torch.rand(30) > 0.4
    pairs = [(1.0 if p > n else 0.5 if p == n else 0.0) for p in values[positive] for n in values[~positive]]
    assert area_under_curve(values, positive) == pytest.approx(sum(pairs) / len(pairs))
    assert area_under_curve(torch.tensor([1.0, 2.0]), torch.tensor([0, 1])) == 1
    with pytest.raises(PursuhintError, match="needs positive and negative samples"):
        area_under_curve(values, torch.ones(30))
