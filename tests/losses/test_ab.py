"""Activation boundaries."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pursuhint.errors import PursuhintError
from pursuhint.losses.ab import ActivationBoundaryLoss
from pursuhint.losses.context import FeatureShape, LossContext


def draw(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("margin", [1.0, 0.3])
def test_equals_the_formula_as_a_loop(margin):
    loss = ActivationBoundaryLoss(3, 3, (2, 4), (2, 4), 0.25, margin=margin)
    student, teacher = 2 * draw(5, 3, 2, 4), draw(5, 3, 2, 4, seed=1)
    total = 0.0
    for r, t in zip(student.flatten().tolist(), teacher.flatten().tolist()):
        if r > -margin and t <= 0:
            total += (r + margin) ** 2
        if r <= margin and t > 0:
            total += (r - margin) ** 2
    assert loss(student, teacher).item() == pytest.approx(total / 5 * 3 / 1000 / 4, rel=1e-12)


def test_the_right_side_by_the_margin_is_enough():
    loss = ActivationBoundaryLoss(3, 3, (2, 2), (2, 2))
    teacher = draw(4, 3, 2, 2)
    assert loss(1.5 * teacher.sign(), teacher) == 0
    assert loss(9 * teacher.sign(), teacher) == 0
    assert loss(-teacher.sign(), teacher) > loss(0 * teacher, teacher) > 0


def test_zero_counts_as_inactive():
    loss = ActivationBoundaryLoss(1, 1, (1, 1), (1, 1))
    assert loss(torch.full((1, 1, 1, 1), -1.0), torch.zeros(1, 1, 1, 1)) == 0


def test_deeper_hint_points_count_twice_as_much():
    post = FeatureShape(3, (2, 2))
    loss = ActivationBoundaryLoss.build(LossContext(((post, post),) * 4, 10, 50, 0, 0))
    assert [hint.share for hint in loss.hints] == [0.125, 0.25, 0.5, 1.0]


def test_only_differing_shapes_need_a_connector():
    shapes = ((3, (4, 4)), (5, (4, 4)), (3, (2, 2)), (3, (8, 4)))
    pairs = tuple((FeatureShape(3, (4, 4)), FeatureShape(*shape)) for shape in shapes)
    loss = ActivationBoundaryLoss.build(LossContext(pairs, 10, 50, 0, 0))
    assert [isinstance(hint.connector, nn.Identity) for hint in loss.hints] == [True, False, False, False]
    students = [torch.randn(2, 3, 4, 4, requires_grad=True) for _ in shapes]
    loss(students, [torch.randn(2, channels, *size) for channels, size in shapes]).backward()
    assert all(student.grad.any() for student in students)
    assert loss.hints[1].connector(students[1]).min() < 0  # no ReLU: it has to reach both sides


def test_trains_in_its_warm_up_alone():
    loss = ActivationBoundaryLoss(3, 5, (2, 2), (2, 2), warm_up_epochs=7)
    (stage,) = loss.stages()
    assert (stage.epochs, stage.trains_student, stage.lr) == (7, True, None)
    assert loss.info.warm_up_only
    loss.begin_stage(None)
    assert not any(p.requires_grad for p in loss.parameters())
    loss.begin_stage(stage.name)
    assert all(p.requires_grad for p in loss.parameters())


def test_refuses_what_is_out_of_range():
    for name in ("margin", "warm_up_epochs"):
        with pytest.raises(PursuhintError, match=f"{name} must be positive, got 0"):
            ActivationBoundaryLoss(3, 3, (2, 2), (2, 2), **{name: 0})
    with pytest.raises(PursuhintError, match="batch of one sample with a 1x1 feature map"):
        ActivationBoundaryLoss(3, 4, (1, 1), (1, 1))(torch.randn(1, 3, 1, 1), torch.randn(1, 4, 1, 1))
