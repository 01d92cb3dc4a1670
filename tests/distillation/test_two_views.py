"""Two views of each image in one pass: what every loss gets, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from pursuhint.data.batch import Batch
from pursuhint.distillation import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import Features
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.integrations.step import DistillationStep
from pursuhint.losses.ce import CrossEntropyLoss
from pursuhint.losses.mlkd import MultiLevelLoss

CLASSES, SAMPLES = 4, 5


class Net(nn.Module):
    """Without batch norms, so that the samples of a pass do not know each other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, width, 3, padding=1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(width, width, 3, stride=2), nn.ReLU())
        self.fc = nn.Linear(width, CLASSES)
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append(len(images))
        return self.fc(self.second(self.first(images)).mean((2, 3)))


@pytest.fixture
def networks():
    torch.manual_seed(0)
    return Net(4), Net(6)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    images, second = torch.randn(2, SAMPLES, 3, 8, 8, generator=generator)
    return Batch(images, torch.arange(SAMPLES) % CLASSES, torch.arange(SAMPLES), second_view=second)


def build(networks, losses) -> Distiller:
    student, teacher = networks
    example = torch.zeros(2, 3, 8, 8)
    points = [find_hint_points(network, example, include=["first", "second"]) for network in networks]
    names = [point.module for point in points[1]]
    plan = HintPlan.explicit(points[1], names).with_student(points[0], pairing=names)
    plan = plan if {"at", "ab"} & set(losses) else None
    sizes = {"num_classes": CLASSES, "num_samples": 50, "example": example}
    return Distiller.build(student, teacher, losses=losses, plan=plan, **sizes)


def test_each_loss_gets_its_views_from_one_pass(networks, batch):
    student, teacher = networks
    distiller = build(networks, {"ce": 0.1, "mlkd": 0.9, "at": 10.0})
    student.seen, teacher.seen = [], []
    losses = distiller(batch)
    assert student.seen == [2 * SAMPLES]
    assert set(teacher.seen) <= {2 * SAMPLES, 2}  # two samples compare the copy that runs with the teacher
    with torch.no_grad():
        (own, other), (own2, other2) = (
            [network(images) for network in networks] for images in (batch.images, batch.second_view)
        )
    close = torch.testing.assert_close
    close(losses.parts["mlkd"], MultiLevelLoss()(own, other, batch.labels, own2, other2))
    close(losses.parts["ce"], CrossEntropyLoss()(own, batch.labels, own2))
    close(losses.logits, own)
    one = distiller(replace(batch, second_view=None))
    close(one.parts["at"], losses.parts["at"])
    close(one.parts["mlkd"], MultiLevelLoss()(own, other, batch.labels))
    assert not torch.isclose(one.parts["mlkd"], losses.parts["mlkd"])


def test_loops_of_other_libraries_pass_a_second_view(networks, batch):
    step = DistillationStep(build(networks, {"mlkd": 0.9}))
    expected = step.distiller(batch).total
    torch.testing.assert_close(
        step(batch.images, batch.labels, batch.indices, batch.second_view)["loss"], expected
    )
    assert not torch.isclose(step(batch.images, batch.labels)["loss"], expected)


def test_gradients_reach_the_student_through_both_views(networks, batch):
    distiller = build(networks, {"ce": 0.0, "mlkd": 1.0})
    distiller(batch).total.backward()
    both = networks[0].fc.weight.grad.clone()
    networks[0].zero_grad()
    swapped = replace(batch, images=batch.second_view, second_view=batch.images)
    distiller(swapped).total.backward()
    torch.testing.assert_close(networks[0].fc.weight.grad, both)


def test_a_warm_up_without_a_use_for_it_sees_one_view(networks, batch):
    distiller = build(networks, {"mlkd": 0.9, "ab": 1.0})
    (name, warm_up), *_ = distiller.warm_ups()
    distiller.begin_stage(name, warm_up)
    networks[0].seen = []
    distiller(batch)
    assert networks[0].seen == [SAMPLES]


def test_a_view_that_nothing_looks_at_is_refused(networks, batch):
    with pytest.raises(PursuhintError, match="no loss looks at a second view"):
        build(networks, {"kd": 0.9, "ce": 0.1})(batch)
    assert build(networks, {"ce": 1.0})(batch).total.isfinite()


def test_a_cached_teacher_has_one_view(networks, batch):
    distiller = build(networks, {"mlkd": 0.9})
    distiller.cache_teacher([replace(batch, second_view=None)])
    assert distiller(replace(batch, second_view=None)).total.isfinite()
    with pytest.raises(PursuhintError, match="cached for one view of each image"):
        distiller(batch)


def test_a_teacher_that_has_run_on_one_view_is_refused(networks, batch):
    distiller = build(networks, {"mlkd": 0.9})
    teacher = Features(torch.zeros(SAMPLES, CLASSES))
    with pytest.raises(PursuhintError, match="a second view of one network"):
        distiller(batch, teacher)
