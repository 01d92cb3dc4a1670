"""NORM: many copies of the teacher's map, and a transform that is folded in the end."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from pursuhint.distillation.distiller import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.losses.ce import CrossEntropyLoss
from pursuhint.losses.norm import NToOneLoss
from tests.losses.test_simkd import BATCH, EXAMPLE, Net


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
        losses={"norm": Options()},
        plan=None,
        num_classes=5,
        num_samples=50,
        example=EXAMPLE,
    )


def trained(distiller, steps=5) -> Distiller:
    optimizer = torch.optim.SGD(distiller.trainable_parameters(), lr=0.05, momentum=0.9)
    for _ in range(steps):
        optimizer.zero_grad()
        distiller(BATCH).total.backward()
        optimizer.step()
    return distiller


@pytest.mark.parametrize("segments", [1, 3, 8])
@pytest.mark.parametrize(("own", "other"), [(1, 1), (2, 1), (4, 1), (1, 2)])
def test_equals_the_formula_as_a_loop(segments, own, other):
    student, teacher = Net(4, own), Net(6, other)
    distiller = build(student, teacher, segments=segments)
    expanded = torch.randn(2, 6 * segments, 8 // own, 8 // own)
    target = torch.randn(2, 6, 8 // other, 8 // other)
    wanted = F.max_pool2d(target, own // other) if own > other else target
    mine = F.adaptive_avg_pool2d(expanded, 4) if own < other else expanded
    total = sum((mine[:, 6 * s : 6 * s + 6] - wanted).square().mean() for s in range(segments))
    loss = distiller.loss("norm")
    loss.begin_epoch(50, 240)
    torch.testing.assert_close(loss([expanded], [target]), total)


@pytest.mark.parametrize("transform", ["residual", "plain"])
def test_the_folded_student_is_the_trained_one(transform):
    student, teacher = Net(4), Net(6)
    before = student.state_dict().keys()
    distiller = trained(build(student, teacher, segments=2, transform=transform)).eval()
    assert not torch.equal(student.avgpool.transform.expand.bn.running_mean, torch.zeros(12))
    exported = distiller.export()
    assert exported.state_dict().keys() == before
    assert type(exported.avgpool) is nn.AdaptiveAvgPool2d
    images = torch.randn(7, 3, 8, 8)
    torch.testing.assert_close(exported(images), distiller.student(images), rtol=1e-4, atol=1e-5)
    assert "transform" in dict(student.avgpool.named_children())  # the training goes on


@pytest.mark.parametrize("transform", ["residual", "plain"])
def test_layers_without_batch_norm_are_folded_too(transform):
    student, teacher = Net(4), Net(6)
    distiller = trained(build(student, teacher, segments=2, transform=transform, batch_norm=False)).eval()
    layers = student.avgpool.transform
    assert not any(isinstance(module, nn.BatchNorm2d) for module in layers.modules())
    images = torch.randn(7, 3, 8, 8)
    torch.testing.assert_close(distiller.export()(images), distiller.student(images), rtol=1e-4, atol=1e-5)


def test_classification_sees_the_transformed_map():
    student, teacher = Net(4), Net(6)
    plain = copy.deepcopy(student).eval()
    distiller = build(student, teacher, transform="residual").eval()
    features = F.relu(plain.conv(BATCH.images))
    transformed = student.avgpool.transform(features)
    torch.testing.assert_close(distiller(BATCH).logits, plain.fc(transformed.mean((2, 3))).detach())


def test_all_terms_see_normalised_logits():
    logits = 7 * torch.randn(4, 5) + 3
    distiller = build(Net(4), Net(6), logit_scale=1.5)
    seen = distiller.loss("norm").transform_logits(logits)
    torch.testing.assert_close(seen.mean(1), torch.zeros(4), atol=1e-6, rtol=0)
    torch.testing.assert_close(seen.std(1, correction=0), torch.full((4,), 1.5))
    losses = distiller.eval()(BATCH)
    expected = CrossEntropyLoss()(distiller.loss("norm").transform_logits(losses.logits), BATCH.labels)
    torch.testing.assert_close(losses.parts["ce"], expected)
    unchanged = build(Net(4), Net(6), normalize_logits=False).loss("norm")
    assert unchanged.transform_logits(logits) is logits


@pytest.mark.parametrize(
    ("ramp", "epochs", "expected"),
    [
        (
            "cifar",
            240,
            {0: 0.1, 9: 0.1, 10: 0.5, 19: 0.5, 20: 1, 179: 1, 180: 0.5, 209: 0.5, 210: 0.1, 239: 0.1},
        ),
        ("cifar", 24, {0: 0.1, 1: 0.5, 2: 1, 17: 1, 18: 0.5, 21: 0.1}),
        ("imagenet", 100, {0: 0.1, 5: 0.5, 15: 0.9, 59: 0.9, 60: 0.5, 80: 0.1}),
        ("none", 7, {0: 1, 6: 1}),
    ],
)
def test_strength_follows_the_epochs(ramp, epochs, expected):
    loss = NToOneLoss(6, 6, segments=1, transform="none", ramp=ramp)
    assert loss.strength == 1  # until somebody tells the epoch
    for epoch, strength in expected.items():
        loss.begin_epoch(epoch, epochs)
        assert loss.strength == strength
        assert loss([torch.ones(1, 6, 2, 2)], [torch.zeros(1, 6, 2, 2)]).item() == pytest.approx(strength)


def test_without_a_transform_the_map_itself_is_compared():
    student, teacher = Net(6), Net(6)
    distiller = build(student, teacher, segments=1, transform="none").eval()
    maps = [F.relu(net.conv(BATCH.images)) for net in (student, teacher)]
    torch.testing.assert_close(distiller(BATCH).parts["norm"], F.mse_loss(*maps).detach())
    assert distiller.export() is student
    with pytest.raises(
        PursuhintError, match="compares one segment of equal width; got segments=8, 4 channels"
    ):
        build(Net(4), Net(6), transform="none")


def test_segments_like_the_teacher_leave_nothing_to_learn():
    teacher = torch.randn(2, 6, 4, 4)
    loss = build(Net(4), Net(6), segments=3).loss("norm")
    assert loss([teacher.repeat(1, 3, 1, 1)], [teacher]).item() == 0


def test_refuses_a_student_it_cannot_fold():
    student = Net(4)
    student.fc = nn.Linear(4, 5, bias=False)
    with pytest.raises(PursuhintError, match="does not end in a linear layer with a bias"):
        build(student, Net(6))
    with pytest.raises(PursuhintError, match="segments must be positive"):
        build(Net(4), Net(6), segments=0)
