"""One-for-all distillation against a slow transcription; its exits and what they are built for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pursuhint.data.batch import Batch
from pursuhint.distillation import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.features import find_hint_points
from pursuhint.losses.ofa import OneForAllLoss
from pursuhint.training.recipe.schema import LossConfig
from tests.helpers.study_runs import untrained
from tests.losses.test_nkd import LABELS, logits, softmax


def slow(student, teacher, labels, gamma, temperature):
    total = 0.0
    for z_s, z_t, y in zip(student.tolist(), teacher.tolist(), labels.tolist()):
        p, q = (softmax([score / temperature for score in z]) for z in (z_t, z_s))
        for k, (a, b) in enumerate(zip(p, q)):
            total -= ((a + (k == y)) ** gamma - (k == y)) * math.log(b)
    return total / len(labels)


@pytest.mark.parametrize(("gamma", "temperature"), [(1.0, 1.0), (1.5, 1.0), (1.3, 2.0)])
def test_of_the_logits_alone_is_the_formula(gamma, temperature):
    loss = OneForAllLoss([], 7, gamma=gamma, temperature=temperature)
    value = loss(*logits(), LABELS)
    assert value.item() == pytest.approx(slow(*logits(), LABELS, gamma, temperature), rel=1e-12)


def test_exits_are_compared_as_the_logits_are():
    torch.manual_seed(0)
    loss = OneForAllLoss([(4, (8, 8)), (6, (3, 3))], 7, gamma=1.5, final_gamma=1.0).double()
    maps = [torch.randn(5, 4, 8, 8).double(), torch.randn(5, 6, 3, 3).double()]
    terms = loss.terms(*logits(), LABELS, maps)
    assert list(terms) == ["final", "exit_0", "exit_1"]
    student, teacher = logits()
    exits = [exit_(features) for exit_, features in zip(loss.exits, maps)]
    for term, own, gamma in zip(terms.values(), (student, *exits), (1.0, 1.5, 1.5)):
        assert term.item() == pytest.approx(slow(own, teacher, LABELS, gamma, 1.0), rel=1e-11)


@pytest.mark.parametrize(
    ("size", "halvings"), [((32, 32), 2), ((8, 8), 0), ((4, 4), 0), ((16, 8), 1), ((33, 8), 3)]
)
def test_an_exit_halves_maps_down_to_the_size_of_the_last(size, halvings):
    loss = OneForAllLoss([(4, size), (6, (8, 8))], 7)
    convolutions = [module for module in loss.exits[0].modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(convolutions) == halvings
    assert loss.exits[0].classifier.in_features == 4 * 2**halvings
    assert loss.exits[0](torch.randn(2, 4, *size)).shape == (2, 7)


def test_tokens_and_vectors_have_exits_too():
    loss = OneForAllLoss([(4, (17,)), (6, ())], 7)
    values = loss.terms(*logits(), LABELS, [torch.randn(5, 17, 4), torch.randn(5, 6)])
    assert len(values) == 3


def exits(student, **options):
    """Modules of the student with an exit, of a distiller whose teacher has one stage."""
    images = torch.zeros(2, 1, 8, 8)
    distiller = Distiller.build(
        student,
        blocks(6),
        losses={"ofa": LossConfig(weight=1.0, options=options)},
        num_classes=10,
        num_samples=8,
        example=images,
    )
    batch = Batch(torch.randn(8, 1, 8, 8), torch.arange(8), torch.arange(8))
    assert distiller(batch).total.isfinite()
    assert len(distiller.loss("ofa").exits) == len(distiller._student_points)
    return [point.module for point in distiller._student_points]


def blocks(count: int) -> nn.Module:
    """A network of one resolution, with so many sub-blocks."""
    torch.manual_seed(0)
    units = [nn.Sequential(nn.Conv2d(1 if not i else 4, 4, 3, padding=1), nn.ReLU()) for i in range(count)]
    return nn.Sequential(*units, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10))


def test_it_says_where_its_exits_are():
    assert OneForAllLoss.looks_at({"exit_points": None}) == OneForAllLoss.looks_at({}) == "ends of the stages"
    assert OneForAllLoss.looks_at({"exit_points": ["layer1.0", 2]}) == "the student's sub-blocks layer1.0, 2"


def test_exits_are_behind_the_stages_of_the_student_whatever_the_teacher_has():
    assert exits(untrained("resnet14")) == ["layer1.1", "layer2.1", "layer3.1"]
    assert exits(untrained("resnet14"), exit_points=("layer3.0", 2)) == ["layer1.1", "layer3.0"]
    with pytest.raises(PursuhintError, match="no hint point 'layer9'"):
        exits(untrained("resnet14"), exit_points=("layer9",))


@pytest.mark.parametrize(("count", "expected"), [(8, [2, 4, 6, 8]), (5, [1, 2, 3, 5]), (3, [1, 2, 3])])
def test_a_network_of_one_resolution_has_exits_behind_four_equal_parts(count, expected):
    network = blocks(count)
    points = find_hint_points(network, torch.zeros(2, 1, 8, 8))
    assert len(points) == count
    assert exits(network) == [points[position - 1].module for position in expected]


@pytest.mark.parametrize("options", [{"gamma": 0.0}, {"final_gamma": -1.0}, {"temperature": 0.0}])
def test_values_out_of_range_are_refused(options):
    with pytest.raises(PursuhintError, match="must be positive"):
        OneForAllLoss([], 7, **options)
