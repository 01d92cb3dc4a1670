"""A learned temperature: its value, the gradient that it gets, and the losses that may have one."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses import LOSSES, get_loss
from pursuhint.losses._parts.learned_temperature import LearnedTemperatureLoss
from pursuhint.testing.loss_setting import make_batch, make_context, student_features, teacher_features

SOFTENING = [name for name in LOSSES if get_loss(name).info.softens_logits]
DTYPE = torch.float64


def built(name: str) -> LearnedTemperatureLoss:
    torch.manual_seed(0)
    loss = get_loss(name).build(make_context(), temperature="learned")
    assert isinstance(loss, LearnedTemperatureLoss)
    return loss.double()


def compute(loss) -> torch.Tensor:
    return loss.compute(student_features(dtype=DTYPE), teacher_features(dtype=DTYPE), make_batch(DTYPE))


@pytest.mark.parametrize("name", SOFTENING)
def test_is_the_loss_at_its_temperature_with_the_gradient_reversed(name):
    loss = built(name)
    temperature = 1 + 20 / (1 + math.exp(-1))
    value = compute(loss)
    value.backward()
    assert loss.extra_metrics["temperature"].item() == pytest.approx(temperature)

    def plain(theta: float) -> float:
        fixed = copy.deepcopy(loss.loss)
        fixed.temperature = 1 + 20 / (1 + math.exp(-theta))
        return compute(fixed).item()

    assert value.item() == pytest.approx(plain(1.0), rel=1e-12)
    slope = (plain(1 + 1e-5) - plain(1 - 1e-5)) / 2e-5
    assert loss.theta.grad.item() == pytest.approx(-slope, rel=1e-4)
    assert slope != 0


def test_the_strength_grows_over_ten_epochs():
    loss = built("kd")
    found = []
    for epoch in range(12):
        loss.begin_epoch(epoch, 240)
        found.append(loss.strength)
    assert found == pytest.approx([-(1 - math.cos(math.pi * min(e, 10) / 10)) / 2 for e in range(1, 13)])


def test_the_temperature_goes_where_the_loss_is_larger():
    loss = built("kd")
    optimizer = torch.optim.SGD([loss.theta], lr=0.05)
    before = compute(loss).item()
    for _ in range(3):
        optimizer.zero_grad()
        compute(loss).backward()
        optimizer.step()
    assert compute(loss).item() > before


def test_it_is_saved_and_copied():
    loss = built("dkd")
    with torch.no_grad():
        loss.theta.fill_(0.3)
    other = built("dkd")
    other.load_state_dict(loss.state_dict())
    assert torch.equal(compute(other), compute(copy.deepcopy(loss)))


@pytest.mark.parametrize("name", ["crd", "cwd"])
def test_other_temperatures_cannot_be_learned(name):
    with pytest.raises(PursuhintError, match="temperature"):
        get_loss(name).checked({"temperature": "learned"})
