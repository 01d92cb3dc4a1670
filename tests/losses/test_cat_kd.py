"""Class attention transfer against a slow transcription, and in a student that is trained."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pursuhint.data.batch import Batch
from pursuhint.distillation import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.losses.cat_kd import ClassAttentionLoss
from pursuhint.models import create_model


def layers() -> tuple[nn.Linear, nn.Linear]:
    torch.manual_seed(0)
    return nn.Linear(3, 4).double(), nn.Linear(2, 4).double()


def maps(channels: int, size: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(channels)
    return torch.randn(5, channels, size, size, generator=generator, dtype=torch.float64)


def class_map(features, weights, resolution: int, normalize: bool) -> list[float]:
    """Map of one sample and class: activations averaged over squares."""
    size = len(features[0]) // resolution
    values = []
    for top in range(resolution):
        for left in range(resolution):
            total = 0.0
            for y in range(top * size, (top + 1) * size):
                for x in range(left * size, (left + 1) * size):
                    total += sum(w * channel[y][x] for w, channel in zip(weights, features))
            values.append(total / size**2)
    length = math.sqrt(sum(value**2 for value in values)) if normalize else 1.0
    return [value / length for value in values]


@pytest.mark.parametrize(("resolution", "normalize"), [(2, True), (2, False), (1, False)])
def test_is_the_formula(resolution, normalize):
    own, other = layers()
    loss = ClassAttentionLoss(own, other, resolution=resolution, normalize=normalize)
    student, teacher = maps(3, 4), maps(2, 2)
    squares = []
    for s, t in zip(student.tolist(), teacher.tolist()):
        for w, v in zip(own.weight.tolist(), other.weight.tolist()):
            a, b = class_map(s, w, resolution, normalize), class_map(t, v, resolution, normalize)
            squares += [(x - y) ** 2 for x, y in zip(a, b)]
    expected = sum(squares) / len(squares)
    assert loss([student], [teacher]).item() == pytest.approx(expected, rel=1e-12)


def test_the_mean_of_the_class_maps_is_the_logits_without_bias():
    own, other = layers()
    loss = ClassAttentionLoss(own, other)
    student, teacher = loss.class_maps(maps(3, 4), maps(2, 2))
    torch.testing.assert_close(student.mean((2, 3)), own(maps(3, 4).mean((2, 3))) - own.bias)
    torch.testing.assert_close(teacher.mean((2, 3)), other(maps(2, 2).mean((2, 3))) - other.bias)


def test_the_students_own_classifier_learns_and_the_teachers_does_not():
    torch.manual_seed(0)
    student, teacher = create_model("resnet8", num_classes=3), create_model("wrn_16_1", num_classes=3)
    task = {"num_classes": 3, "num_samples": 4, "example": torch.zeros(1, 3, 16, 16)}
    distiller = Distiller.build(student, teacher, losses={"cat-kd": None, "ce": 0}, **task)
    images, labels = torch.randn(4, 3, 16, 16), torch.arange(4) % 3
    distiller(Batch(images, labels, torch.arange(4))).total.backward()
    assert distiller.student.fc.weight.grad.any()
    assert distiller.student.fc.bias.grad is None
    assert all(parameter.grad is None for parameter in teacher.parameters())
    assert not list(distiller.losses["cat-kd"].buffers())
    learned = [p for p in distiller.losses["cat-kd"].parameters() if p.requires_grad]
    assert not learned  # the classifier is the student's, not the loss's


def test_other_classes_are_refused():
    with pytest.raises(PursuhintError, match="4 classes and the teacher 5"):
        ClassAttentionLoss(nn.Linear(3, 4), nn.Linear(2, 5))


def test_a_map_of_another_width_is_refused():
    own, other = layers()
    with pytest.raises(PursuhintError, match="takes 3 features, but its last map has 2"):
        ClassAttentionLoss(own, other)([maps(2, 2)], [maps(2, 2)])
