"""Losses that prepare something before the main stage, in the distiller."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
import torch

from pursuhint.data.batch import Batch
from pursuhint.distillation.distiller import Distiller
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.models import create_model

STAGES = {  # options, whether the student is prepared, whether the loss goes on in the main stage
    "fsp": ({}, True, False),
    "ab": ({}, True, False),
    "ft": ({}, False, True),
    "fitnet": ({"two_stages": True}, True, False),
}


@pytest.fixture(params=STAGES)
def name(request):
    return request.param


@pytest.fixture
def distiller(name):
    torch.manual_seed(0)
    teacher, student = (create_model(net, num_classes=4) for net in ("resnet8x4", "resnet8"))
    example = torch.randn(1, 3, 8, 8)
    points = [find_hint_points(net, example, activation="pre") for net in (teacher, student)]
    modules = ["layer1.0", "layer2.0"]
    plan = HintPlan.explicit(points[0], modules).with_student(points[1], pairing=modules)
    losses = {name: SimpleNamespace(weight=None, options=STAGES[name][0]), "kd": None}
    return Distiller.build(
        student, teacher, losses=losses, plan=plan, num_classes=4, num_samples=50, example=example
    )


def one_step(distiller):
    """The losses of a step of the present stage, and the names of the parameters that it changed."""
    before = copy.deepcopy(dict(distiller.named_parameters()))
    optimizer = torch.optim.SGD(distiller.train().trainable_parameters(), lr=0.1, weight_decay=5e-4)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    losses = distiller(Batch(images, torch.arange(4), torch.arange(4)))
    losses.total.backward()
    optimizer.step()
    distiller.zero_grad()
    return losses, {key for key, value in distiller.named_parameters() if not torch.equal(value, before[key])}


def test_the_warm_up_trains_what_it_prepares_and_the_main_stage_the_rest(name, distiller):
    _, prepares_student, goes_on = STAGES[name]
    ((term, warm_up),) = distiller.warm_ups()
    assert term == name

    distiller.begin_stage(term, warm_up)
    losses, changed = one_step(distiller)
    assert list(losses.parts) == [name]
    assert losses.total.item() == pytest.approx(losses.parts[name].item())  # not weighted
    assert any(key.startswith("losses.") for key in changed)
    assert any(key.startswith("student.layer2") for key in changed) == prepares_student
    assert not any(key.startswith(("student.layer3", "student.fc")) for key in changed)

    distiller.begin_stage()
    losses, changed_later = one_step(distiller)
    assert set(losses.parts) == {"ce", "kd"} | ({name} if goes_on else set())
    assert set(dict(distiller.student.named_parameters(prefix="student"))) <= changed_later
    learned = {key for key in changed_later if key.startswith("losses.")}
    assert bool(learned) == goes_on
    assert not learned & changed
