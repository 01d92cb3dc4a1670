"""Gradients of losses come back in the order of the features."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pursuhint.acceleration.channels_last import channels_last_gradient
from pursuhint.acceleration.options import Acceleration
from pursuhint.data import Batch
from pursuhint.distillation import Distiller, Term
from pursuhint.features.hint_points import find_hint_points
from pursuhint.losses.at import AttentionTransferLoss
from pursuhint.losses.base import HintSum
from pursuhint.losses.ce import CrossEntropyLoss


def _maps() -> Tensor:
    torch.manual_seed(0)
    return torch.randn(2, 6, 4, 4, dtype=torch.float64).contiguous(memory_format=torch.channels_last)


def _energy(features: Tensor) -> Tensor:
    """A loss whose gradient autograd lays out with the channels outermost."""
    return features.pow(2).mean(1).flatten(1).square().sum()


def test_the_gradient_is_the_same_in_the_order_of_the_features() -> None:
    plain, kept = _maps().requires_grad_(), _maps().requires_grad_()
    (expected,) = torch.autograd.grad(_energy(plain * 1), plain)
    seen: list[Tensor] = []
    features = channels_last_gradient(kept * 1)
    _energy(features).backward()
    assert kept.grad is not None
    assert torch.equal(kept.grad, expected)

    within = _maps().requires_grad_()
    middle = within * 1
    middle.register_hook(seen.append)
    _energy(channels_last_gradient(middle)).backward()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_it_can_be_differentiated_twice() -> None:
    torch.autograd.gradgradcheck(
        lambda maps: _energy(channels_last_gradient(maps * 1)), (_maps().requires_grad_(),)
    )


def test_other_features_are_left_alone() -> None:
    for features in (
        torch.zeros(2, 3, 4, 4).requires_grad_(),
        torch.zeros(2, 5, 3).requires_grad_(),
        torch.zeros(2, 3).requires_grad_(),
        _maps(),
    ):
        assert channels_last_gradient(features) is features


def test_attention_transfer_keeps_the_order_by_itself() -> None:
    seen: list[Tensor] = []
    maps = _maps().requires_grad_()
    middle = maps * 1
    middle.register_hook(seen.append)
    AttentionTransferLoss()(middle, _maps().flip(0)).backward()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def _network(width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, width, 3),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 2),
    ).double()


@pytest.mark.parametrize("p", [2, 4])
def test_a_network_learns_the_same_whatever_the_order_in_memory(p: int) -> None:
    """Of a loss with its own backward pass (p = 2) and of one without."""
    torch.manual_seed(0)
    student, teacher = _network(6), _network(8)
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    batch = Batch(images, torch.tensor([0, 1, 1, 0]), torch.arange(4))
    gradients = []
    for channels_last in (True, False):  # the distiller lays out the images as its engine says
        terms = {
            "ce": Term(CrossEntropyLoss(), 1.0),
            "at": Term(HintSum([AttentionTransferLoss(p=p)]), 100.0),
        }
        distiller = Distiller(
            student,
            terms,
            teacher=teacher,
            student_points=find_hint_points(student, images)[:1],
            teacher_points=find_hint_points(teacher, images)[:1],
            acceleration=Acceleration(channels_last=channels_last),
        ).train()
        distiller.zero_grad()
        distiller(batch).total.backward()
        gradients.append([w.grad.clone() for w in student.parameters() if w.grad is not None])
    for one, another in zip(*gradients, strict=True):
        torch.testing.assert_close(one, another, rtol=1e-10, atol=1e-12)
