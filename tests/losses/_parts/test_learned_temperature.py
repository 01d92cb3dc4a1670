"""A learned temperature: its value, the gradient that it gets, and the losses that may have one."""

from __future__ import annotations

import copy
import math
from dataclasses import replace

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses import LOSSES, get_loss
from pursuhint.losses._parts.learned_temperature import LearnedTemperatureLoss
from pursuhint.losses.base import LogitLoss, Loss, WarmUp
from pursuhint.testing.loss_setting import make_batch, make_context, student_features, teacher_features

SOFTENING = [name for name in LOSSES if get_loss(name).info.softens_logits]
DTYPE = torch.float64


def built(name: str) -> LearnedTemperatureLoss:
    torch.manual_seed(0)
    context = make_context(at_last_map=get_loss(name).info.at_last_map)
    loss = get_loss(name).build(context, temperature="learned")
    assert isinstance(loss, LearnedTemperatureLoss)
    loss.prepare(context.student)
    return loss.double()


def compute(loss) -> torch.Tensor:
    features = [make(dtype=DTYPE) for make in (student_features, teacher_features)]
    if loss.info.at_last_map:
        features = [replace(each, maps=each.maps[-1:]) for each in features]
    return loss.compute(*features, make_batch(DTYPE))


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


class Hooked(LogitLoss):
    """A loss with a temperature that uses every hook of the base class."""

    info = LogitLoss.info.replace(softens_logits=True, shared_buffers=("bank",))

    def __init__(self, *, temperature: float = 1.0) -> None:
        super().__init__()
        self.temperature = temperature
        self.register_buffer("bank", torch.zeros(1))
        self.stage = "none"

    def forward(self, student, teacher, labels):
        return (student - teacher).square().mean() / self.temperature

    def transform_logits(self, logits):
        return 2 * logits

    def export(self, student):
        return student[0]

    def stages(self):
        return (WarmUp("first", 1, trains_student=False),)

    def begin_stage(self, stage):
        self.stage = stage


def test_every_hook_of_the_loss_is_called():
    loss = Hooked.build(make_context(), temperature="learned")
    assert loss.transform_logits(torch.ones(1)) == 2
    assert loss.export([7]) == 7
    assert [stage.name for stage in loss.stages()] == ["first"]
    loss.begin_stage("first")
    assert loss.loss.stage == "first"
    assert dict(loss.named_buffers()).keys() == {*loss.info.shared_buffers}
    hooks = {name for name in vars(Loss) if not name.startswith("_") and callable(vars(Loss)[name])}
    own = {*vars(LearnedTemperatureLoss), "forward", "compute"}
    assert hooks <= own  # those of the class are its kind's
