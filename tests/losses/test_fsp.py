"""The flow of the solution procedure."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses.context import FeatureShape, LossContext
from pursuhint.losses.fsp import SolutionFlowLoss


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture
def students():
    return [draw(2, 3, 4, 6), draw(2, 4, 2, 3, seed=1), draw(2, 5, 2, 3, seed=2)]


@pytest.fixture
def teachers():
    return [draw(2, 3, 2, 2, seed=3), draw(2, 4, 2, 2, seed=4), draw(2, 5, 4, 4, seed=5)]


def flow_by_loop(first, second):
    size = [min(a, b) for a, b in zip(first.shape[2:], second.shape[2:])]
    first, second = F.adaptive_avg_pool2d(first, size), F.adaptive_avg_pool2d(second, size)
    result = torch.zeros(len(first), first.shape[1], second.shape[1], dtype=torch.float64)
    for n in range(len(first)):
        for c in range(first.shape[1]):
            for d in range(second.shape[1]):
                result[n, c, d] = (first[n, c] * second[n, d]).sum() / (size[0] * size[1])
    return result


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_equals_the_formula_as_a_loop(students, teachers, reduction):
    loss = SolutionFlowLoss([3, 4, 5], [3, 4, 5], reduction=reduction)
    steps = []
    for i in range(2):
        squared = (flow_by_loop(*students[i : i + 2]) - flow_by_loop(*teachers[i : i + 2])).square()
        steps.append(squared.sum() / (2 if reduction == "sum" else squared.numel()))
    terms = loss.terms(students, teachers)
    assert list(terms) == ["hint_0", "hint_1"]
    torch.testing.assert_close(list(terms.values()), steps)
    torch.testing.assert_close(loss(students, teachers), sum(steps))


def test_a_student_like_the_teacher_has_nothing_to_learn(teachers):
    assert SolutionFlowLoss([3, 4, 5], [3, 4, 5])(teachers, teachers) == 0


def test_places_do_not_matter(students, teachers):
    loss = SolutionFlowLoss([3, 4, 5], [3, 4, 5])
    torch.testing.assert_close(loss([f.flip(2, 3) for f in students], teachers), loss(students, teachers))


def test_other_widths_are_brought_to_the_teachers(students, teachers):
    loss = SolutionFlowLoss([3, 4, 5], [7, 4, 2]).double()
    assert [tuple(p.shape) for p in loss.parameters()] == [(7, 3, 1, 1), (2, 5, 1, 1)]
    teachers = [draw(2, 7, 2, 2), teachers[1], draw(2, 2, 4, 4)]
    loss(students, teachers).backward()
    assert all(p.grad.any() for p in loss.parameters())


def test_trains_in_its_warm_up_alone():
    loss = SolutionFlowLoss([3, 4], [5, 6], warm_up_epochs=7)
    (stage,) = loss.stages()
    assert (stage.epochs, stage.trains_student, stage.lr) == (7, True, None)
    assert loss.info.warm_up_only
    loss.begin_stage(None)
    assert not any(p.requires_grad for p in loss.parameters())
    loss.begin_stage(stage.name)
    assert all(p.requires_grad for p in loss.parameters())


def test_needs_two_hint_points():
    shape = FeatureShape(4, (2, 2))
    with pytest.raises(PursuhintError, match=r"FSP compares steps .* needs two or more, got 1"):
        SolutionFlowLoss.build(LossContext(((shape, shape),), 10, 50, 0, 0))
    with pytest.raises(PursuhintError, match="warm_up_epochs must be positive, got 0"):
        SolutionFlowLoss([4, 6], [4, 6], warm_up_epochs=0)


def test_the_preparation_may_have_a_learning_rate_of_its_own():
    assert SolutionFlowLoss([3, 3], [3, 3]).stages()[0].lr is None
    assert SolutionFlowLoss([3, 3], [3, 3], warm_up_lr=0.01).stages()[0].lr == 0.01
    with pytest.raises(PursuhintError, match="warm_up_lr must be positive, got 0"):
        SolutionFlowLoss([3, 3], [3, 3], warm_up_lr=0.0)
