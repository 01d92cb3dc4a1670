"""Losses beside each other: one total, one step, one student to keep."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from pursuhint.data.batch import Batch
from pursuhint.distillation.distiller import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.losses import LOSSES, get_loss

CLASSES, SAMPLES = 4, 20
EXAMPLE = torch.zeros(1, 3, 8, 8)
SMALL = {
    "crd": {"negatives": 5},
    "crcd": {"negatives": 5},
    "wcord": {"negatives": 5},
    "rrd": {"queue_size": 9},
}


class Net(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.block1 = nn.Sequential(
            nn.Conv2d(3, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.block2 = nn.Sequential(
            nn.Conv2d(width, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.pool(self.block2(self.block1(images))).flatten(1))


@pytest.fixture
def batch() -> Batch:
    images = torch.randn(5, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    return Batch(images, torch.tensor([0, 1, 2, 3, 0]), torch.arange(5))


def build(**weights: float | None) -> Distiller:
    torch.manual_seed(0)
    student, teacher = Net(4), Net(6)
    points = [find_hint_points(network, EXAMPLE, include=["block?"]) for network in (teacher, student)]
    plan = HintPlan.explicit(points[0], ["block1", "block2"]).with_student(
        points[1], pairing=["block1", "block2"]
    )
    losses = {
        name: SimpleNamespace(weight=weight, options=SMALL.get(name, {})) for name, weight in weights.items()
    }
    return Distiller.build(
        student,
        teacher,
        losses=losses,
        plan=plan if any(get_loss(name).needs_hint_plan() for name in losses) else None,
        num_classes=CLASSES,
        num_samples=SAMPLES,
        example=EXAMPLE,
        labels=torch.arange(SAMPLES) % CLASSES,
        batch_size=5,
    )


@pytest.mark.parametrize(
    "names",
    [
        "crd at kd",
        "wsld at",
        "skd at vid",
        "refilled crd",
        "norm crd",
        "norm kd",
        "norm wsld",
        "norm ipwd reviewkd",
        "simkd kd at",
        "simkd srrl",
        "at simkd rrd reviewkd",
        "crcd simkd",
        "ipwd simkd",
        "reviewkd dkd",
        "afd kd",
        "semckd distpro dist",
        "itrd ega fkd",
        "icd dcd aml",
        "wcord crcd crd",
        "jacobian jacobian-attention kd",
        "fitnet nst sp",
    ],
)
def test_any_losses_combine(names, batch):
    distiller = build(**dict.fromkeys(names.split())).train()
    optimizer = torch.optim.SGD(distiller.parameters(), lr=1e-4)
    for _ in range(2):
        losses = distiller(batch)
        total = sum(weight * losses.parts[name] for name, weight in distiller.weights.items())
        torch.testing.assert_close(losses.total.detach(), total)
        optimizer.zero_grad()
        losses.total.backward()
        optimizer.step()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all()
        for name, parameter in distiller.student.named_parameters()
        if name.startswith("block")
    )
    kept = distiller.export().eval()
    torch.testing.assert_close(kept(batch.images), distiller.eval().student(batch.images))
    assert not any(
        type(module).__module__.startswith("pursuhint.distillation.distiller") for module in kept.modules()
    )


@pytest.mark.parametrize("names", ["norm crd", "simkd at", "ipwd at", "crcd"])
def test_a_kept_student_is_rebuilt_from_its_weights(names, batch):
    distiller = build(**dict.fromkeys(names.split())).train()
    distiller(batch).total.backward()
    kept = distiller.export().eval()
    again: nn.Module = Net(4)
    for name in distiller.losses:
        again = get_loss(name).rebuild(again, kept.state_dict(), EXAMPLE)
    again.load_state_dict(kept.state_dict())
    assert torch.equal(again.eval()(batch.images), kept(batch.images))


def test_a_student_can_learn_from_hints_alone(batch):
    distiller = build(ce=0.0, reviewkd=5.0)
    losses = distiller(batch)
    torch.testing.assert_close(losses.total.detach(), 5 * losses.parts["reviewkd"])
    losses.total.backward()
    assert distiller.student.fc.weight.grad is None
    assert distiller.student.block1[0].weight.grad.any()


@pytest.mark.parametrize("name", [name for name in LOSSES if get_loss(name).info.contains_classification])
def test_classification_is_counted_once(name):
    if name == "ce":
        assert list(build(kd=1.0).weights) == ["ce", "kd"]
        return
    assert "ce" not in build(**{name: None}).weights
    with pytest.raises(PursuhintError, match=f"'{name}' contains the classification term already"):
        build(ce=None, **{name: None})
    other = "skd" if name == "wsld" else "wsld"
    with pytest.raises(PursuhintError, match="both contain the classification term; use one of them"):
        build(**{name: None, other: None})


def test_the_head_is_changed_once():
    with pytest.raises(PursuhintError, match="two losses change the head of Net"):
        build(norm=None, simkd=None)
