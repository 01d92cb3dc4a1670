"""Jacobian matching of attention: the same reactions at the place that the teacher attends to."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pursuhint.errors import PursuhintError
from pursuhint.losses.jacobian_attention import AttentionJacobianLoss


@pytest.fixture
def images():
    return torch.randn(3, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_attention_is_compared_where_the_teacher_attends(images):
    torch.manual_seed(0)
    own, other = nn.Conv2d(3, 4, 1).double(), nn.Conv2d(3, 6, 1).double()
    images.requires_grad_()
    students, teachers = [own(images).tanh()], [other(images).tanh()]
    total = 0.0
    for index in range(3):
        attention = [features[0][index].square().sum(0).flatten() for features in (students, teachers)]
        place = attention[1].argmax()
        slopes = [
            torch.autograd.grad(part[place], images, retain_graph=True)[0][index].flatten()
            for part in attention
        ]
        directions = [part / part.norm() for part in slopes]
        total += (directions[0] - directions[1]).square().sum().item()
    value = AttentionJacobianLoss()(students, teachers, images)
    assert value.item() == pytest.approx(total / 3, rel=1e-10)
    element = AttentionJacobianLoss(reduction="element")(students, teachers, images)
    assert element.item() == pytest.approx(total / 36, rel=1e-10)


def test_attention_may_be_compared_at_places_of_their_own(images):
    torch.manual_seed(0)
    own, other = nn.Conv2d(3, 4, 1).double(), nn.Conv2d(3, 6, 1).double()
    images.requires_grad_()
    students, teachers = [own(images).tanh()], [other(images).tanh()]
    total = 0.0
    for index in range(3):
        directions = []
        for features in (students, teachers):
            attention = features[0][index].square().sum(0).flatten()
            slope = torch.autograd.grad(attention.max(), images, retain_graph=True)[0][index].flatten()
            directions.append(slope / slope.norm())
        total += (directions[0] - directions[1]).square().sum().item()
    value = AttentionJacobianLoss(place="own")(students, teachers, images)
    assert value.item() == pytest.approx(total / 3, rel=1e-10)


def test_attention_of_differing_sizes_is_averaged_down(images):
    images.requires_grad_()
    big = nn.functional.interpolate(images, size=(4, 6))
    loss = AttentionJacobianLoss()
    assert loss([big.sin(), images.sin()], [images.sin(), big.sin()], images).isfinite()
    assert list(loss.terms([images.sin()] * 2, [images.sin()] * 2, images)) == ["hint_0", "hint_1"]
    assert loss([images.sin()], [images.sin()], images).item() == 0


def test_refuses_other_options():
    with pytest.raises(PursuhintError, match="reduction must be one of sample, element"):
        AttentionJacobianLoss(reduction="sum")
    with pytest.raises(PursuhintError, match="place must be one of teacher, own"):
        AttentionJacobianLoss(place="student")
