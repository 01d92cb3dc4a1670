"""Cross-entropy beside other losses: one rule, for recipes and for the distiller."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch

from pursuhint.distillation.distiller import Distiller
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.losses import LOSSES, get_loss
from pursuhint.losses._parts.classification import add_classification
from pursuhint.models import create_model
from pursuhint.training import LossConfig
from pursuhint.training.recipe.resolve import needs_hints, resolve_losses


def rule(*names: str, **weights: float | None) -> dict[str, float | None]:
    given = {**dict.fromkeys(names), **weights}
    return add_classification({name: get_loss(name) for name in given}, given)


def test_is_added_with_the_smallest_weight_of_the_papers():
    assert rule() == {"ce": 1}
    assert rule("at") == {"ce": 1, "at": None}
    assert rule("kd") == {"ce": 0.1, "kd": None}
    assert rule("at", "kd") == {"ce": 0.1, "at": None, "kd": None}
    assert rule("simkd", "crd") == {"ce": 0, "simkd": None, "crd": None}


def test_is_left_alone_where_it_is_named_with_a_weight_or_contained():
    assert rule("kd", ce=1) == {"kd": None, "ce": 1}
    assert rule("kd", ce=0) == {"kd": None, "ce": 0}
    assert rule("kd", "ce") == {"kd": None, "ce": 0.1}
    assert rule("skd", "at") == {"skd": None, "at": None}


COMBINATIONS = [
    *((name,) for name in LOSSES),
    *itertools.combinations(["at", "kd", "crd", "rkd"], 2),
    ("crd", "at", "kd"),
    ("wsld", "at"),
    ("norm", "crd"),
    ("simkd", "kd"),
]


@pytest.mark.parametrize("names", COMBINATIONS, ids="+".join)
def test_a_recipe_writes_down_what_the_distiller_does(names):
    resolved = resolve_losses({name: LossConfig() for name in names})
    torch.manual_seed(0)
    student = create_model("resnet8", num_classes=10, in_channels=1)
    teacher, example = copy.deepcopy(student), torch.zeros(2, 1, 8, 8)
    points = find_hint_points(teacher, example)
    plan = HintPlan.conventional(teacher, points).with_student(points, student)
    distiller = Distiller.build(
        student,
        teacher,
        losses=dict.fromkeys(names),
        plan=plan if needs_hints(resolved) else None,
        num_classes=10,
        num_samples=200,
        example=example,
        labels=torch.arange(200) % 10,
        batch_size=8,
    )
    assert distiller.weights == {name: config.weight for name, config in resolved.items()}
    assert list(distiller.weights) == list(resolved)
