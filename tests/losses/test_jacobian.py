"""Jacobian matching: the same reactions to changes of an image."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pursuhint.errors import PursuhintError
from pursuhint.losses.jacobian import JacobianLoss


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return [
        nn.Sequential(nn.Flatten(), nn.Linear(12, w), nn.Tanh(), nn.Linear(w, 5)).double() for w in (4, 7)
    ]


@pytest.fixture
def images():
    return torch.randn(3, 3, 2, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


LABELS = torch.tensor([0, 4, 2])


def slope(network, image, target):
    """Gradient of one logit by central differences, of unit length."""
    result, step = [], 1e-6
    for index in range(image.numel()):
        ends = []
        for sign in (1, -1):
            moved = image.clone()
            moved.view(-1)[index] += sign * step
            ends.append(float(network(moved[None])[0, target].detach()))
        result.append((ends[0] - ends[1]) / (2 * step))
    length = math.sqrt(sum(x * x for x in result))
    return [x / length for x in result]


@pytest.mark.parametrize("target", ["label", "teacher_argmax"])
@pytest.mark.parametrize("reduction", ["sample", "element"])
def test_equals_the_formula_by_differences(networks, images, target, reduction):
    student, teacher = networks
    chosen = LABELS if target == "label" else teacher(images).argmax(1)
    total = 0.0
    for image, index in zip(images, chosen.tolist()):
        pairs = zip(slope(student, image, index), slope(teacher, image, index))
        total += sum((s - t) ** 2 for s, t in pairs)
    total /= 3 if reduction == "sample" else 3 * 12
    images.requires_grad_()
    loss = JacobianLoss(target=target, reduction=reduction)
    assert loss(student(images), teacher(images), LABELS, images).item() == pytest.approx(total, rel=1e-6)


def test_gradient_reaches_the_student_alone(networks, images):
    student, teacher = networks
    images.requires_grad_()
    JacobianLoss()(student(images), teacher(images), LABELS, images).backward()
    assert student[1].weight.grad.any()
    assert student[3].weight.grad.any()
    assert student[3].bias.grad is None
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert images.grad is not None  # through the second derivative, as it should


def test_its_gradient_is_right(networks, images):
    student, teacher = networks
    weight = student[1].weight

    def value(changed):
        pixels = images.detach().requires_grad_()
        own = torch.func.functional_call(student, {"1.weight": changed}, (pixels,))
        return JacobianLoss()(own, teacher(pixels), LABELS, pixels)

    assert torch.autograd.gradcheck(value, weight.detach().clone().requires_grad_())


def test_length_does_not_matter_and_equal_networks_agree(networks, images):
    student, _ = networks
    images.requires_grad_()
    logits = student(images)
    assert JacobianLoss()(logits, 3 * student(images), LABELS, images).item() == pytest.approx(0, abs=1e-20)
    assert JacobianLoss()(logits, -student(images), LABELS, images).item() == pytest.approx(4)


def test_a_network_that_does_not_react_stays_finite(networks, images):
    student, teacher = networks
    nn.init.zeros_(student[1].weight)
    images.requires_grad_()
    value = JacobianLoss()(student(images) * 0, teacher(images), LABELS, images)
    value.backward()
    assert value.item() == pytest.approx(1)
    assert all(p.grad is None or p.grad.isfinite().all() for p in student.parameters())


def test_refuses_other_targets():
    with pytest.raises(PursuhintError, match="target must be one of label, teacher_argmax"):
        JacobianLoss(target="all")
