"""Gradients of losses come back in the order of the features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pursuhint.data import Batch
from pursuhint.distiller import Distiller, Term
from pursuhint.layout import keep_layout
from pursuhint.losses.at import AttentionTransferLoss
from pursuhint.losses.base import HintSum
from pursuhint.losses.cross_entropy import CrossEntropyLoss
from pursuhint.points import find_hint_points


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
    features = keep_layout(kept * 1)
    _energy(features).backward()
    assert kept.grad is not None
    assert torch.equal(kept.grad, expected)

    within = _maps().requires_grad_()
    middle = within * 1
    middle.register_hook(seen.append)
    _energy(keep_layout(middle)).backward()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_it_can_be_differentiated_twice() -> None:
    torch.autograd.gradgradcheck(lambda maps: _energy(keep_layout(maps * 1)), (_maps().requires_grad_(),))


def test_other_features_are_left_alone() -> None:
    for features in (
        torch.zeros(2, 3, 4, 4).requires_grad_(),
        torch.zeros(2, 5, 3).requires_grad_(),
        torch.zeros(2, 3).requires_grad_(),
        _maps(),
    ):
        assert keep_layout(features) is features


def test_attention_transfer_keeps_the_order_by_itself() -> None:
    seen: list[Tensor] = []
    maps = _maps().requires_grad_()
    middle = maps * 1
    middle.register_hook(seen.append)
    AttentionTransferLoss()(middle, _maps().flip(0)).backward()
    assert seen[0].is_contiguous(memory_format=torch.channels_last)


def test_a_network_learns_the_same_whatever_the_order_in_memory() -> None:
    """Of a loss with its own backward pass (p = 2) and of one without."""
    torch.manual_seed(0)
    student = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 2),
    ).double()
    teacher = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 2),
    ).double()
    images = torch.randn(4, 3, 8, 8, dtype=torch.float64)
    batch = Batch(images, torch.tensor([0, 1, 1, 0]), torch.arange(4))
    gradients = []
    for p in (2, 4):
        for form in (torch.channels_last, torch.contiguous_format):
            own = find_hint_points(student, images)[:1]
            other = find_hint_points(teacher, images)[:1]
            distiller = Distiller(
                student,
                {
                    "ce": Term(CrossEntropyLoss(), 1.0),
                    "at": Term(HintSum([AttentionTransferLoss(p=p)]), 100.0),
                },
                teacher=teacher,
                student_points=own,
                teacher_points=other,
            ).train()
            distiller.zero_grad()
            laid_out = Batch(images.contiguous(memory_format=form), batch.labels, batch.indices)
            distiller(laid_out).total.backward()
            gradients.append([p.grad.clone() for p in student.parameters() if p.grad is not None])
        for one, another in zip(*gradients[-2:], strict=True):
            torch.testing.assert_close(one, another, rtol=1e-10, atol=1e-12)
