"""SimKD: the student with the teacher's classifier."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.data.batch import Batch
from pursuhint.distillation import Distiller, Term
from pursuhint.errors import PursuhintError
from pursuhint.losses.simkd import Projector, ReusedClassifierLoss

EXAMPLE = torch.zeros(2, 3, 8, 8)


class Net(nn.Module):
    def __init__(self, width: int, stride: int = 1, classes: int = 5) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, stride, 1)
        self.relu = nn.ReLU()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(width, classes)

    def forward(self, images: Tensor) -> Tensor:
        return self.fc(self.avgpool(self.relu(self.conv(images))).flatten(1))


BATCH = Batch(
    torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0)),
    labels=torch.arange(4),
    indices=torch.arange(4),
)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def build(student, teacher, **options) -> Distiller:
    class Options:
        weight = None

    Options.options = options
    return Distiller.build(
        student,
        teacher,
        losses={"simkd": Options()},
        plan=None,
        num_classes=5,
        num_samples=50,
        example=EXAMPLE,
    )


@pytest.mark.parametrize(("own", "other"), [(1, 1), (1, 2), (2, 1)])
def test_loss_and_logits_are_those_of_the_formula(own, other):
    student, teacher = Net(4, own), Net(6, other)
    original = copy.deepcopy(student)
    distiller = build(student, teacher).eval()
    losses = distiller(BATCH)
    maps = [F.relu(net.conv(BATCH.images)) for net in (original, teacher)]
    size = maps[1].shape[2:] if own < other else maps[0].shape[2:]
    own_map, target = (F.adaptive_avg_pool2d(features, size) for features in maps)
    projected = distiller.student.avgpool.projector.layers(own_map)
    torch.testing.assert_close(losses.parts["simkd"], (projected - target).square().mean().detach())
    expected = F.linear(projected.mean((2, 3)), teacher.fc.weight, teacher.fc.bias)
    torch.testing.assert_close(losses.logits, expected.detach())
    torch.testing.assert_close(losses.total, losses.parts["simkd"])  # no cross-entropy


def test_projector_is_the_one_of_the_paper():
    projector = Projector(4, 7, (2, 2), 3)
    shapes = [tuple(parameter.shape) for parameter in projector.parameters() if parameter.ndim == 4]
    assert shapes == [(3, 4, 1, 1), (3, 3, 3, 3), (7, 3, 1, 1)]
    assert projector(torch.randn(2, 4, 4, 4)).shape == (2, 7, 2, 2)
    assert projector(torch.randn(2, 4, 4, 4)).min() == 0


def test_student_and_projector_learn_and_the_classifier_does_not():
    student, teacher = Net(4), Net(6)
    distiller = build(student, teacher)
    distiller(BATCH).total.backward()
    assert student.conv.weight.grad.any()
    assert all(p.grad is not None for p in student.avgpool.parameters())
    assert student.fc.weight.grad is None
    assert not student.fc.weight.requires_grad
    assert student.fc is not teacher.fc
    assert torch.equal(student.fc.weight, teacher.fc.weight)
    trained = {id(p) for p in distiller.trainable_parameters()}
    assert id(student.fc.weight) not in trained


def test_the_exported_student_is_what_was_trained():
    distiller = build(Net(4), Net(6)).eval()
    exported = distiller.export()
    torch.testing.assert_close(exported(BATCH.images), distiller.student(BATCH.images))
    assert {"conv.weight", "avgpool.projector.layers.conv1.weight", "fc.weight"} < set(exported.state_dict())


@pytest.mark.parametrize(("stride", "factor"), [(1, 2), (2, 4)])
def test_an_exported_student_can_be_rebuilt_for_its_weights(stride, factor):
    exported = build(Net(4), Net(8, stride), factor=factor).eval().export()
    again = ReusedClassifierLoss.rebuild(Net(4), exported.state_dict(), EXAMPLE)
    again.load_state_dict(exported.state_dict())
    torch.testing.assert_close(again.eval()(BATCH.images), exported(BATCH.images))


def test_a_student_with_the_teachers_map_leaves_nothing_to_learn():
    teacher = Net(6)
    distiller = build(Net(4), teacher)
    features = F.relu(teacher.conv(BATCH.images))
    assert distiller.loss("simkd")([BATCH.images, features], [features]).item() == 0


def test_refuses_networks_it_cannot_change():
    with pytest.raises(PursuhintError, match="teacher has 7 classes, student 5; SimKD gives"):
        build(Net(4), Net(6, classes=7))
    with pytest.raises(PursuhintError, match=r"factor must be at most the 6 channels .* got 7"):
        build(Net(4), Net(6), factor=7)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(192, 8), nn.ReLU(), nn.Linear(8, 5))
    with pytest.raises(PursuhintError, match="Sequential has no place behind its last feature map"):
        build(flat, Net(6))
    student, teacher = Net(4), Net(6)
    loss = build(copy.deepcopy(student), teacher).loss("simkd")
    terms = {"one": Term(loss), "two": Term(copy.deepcopy(loss))}
    with pytest.raises(PursuhintError, match="two losses change the head"):
        Distiller(student, terms, teacher=teacher)


def test_needs_no_hint_plan():
    assert not ReusedClassifierLoss.needs_hint_plan()
