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
from pursuhint.losses._parts.classification import add_classification, default_weights
from pursuhint.models import create_model
from pursuhint.training import LossConfig
from pursuhint.training.recipe.resolve import needs_hints, resolve_losses


def rule(*names: str, **weights: float | None) -> dict[str, float]:
    given = {**dict.fromkeys(names), **weights}
    kinds = {name: get_loss(name) for name in (*given, "ce")}
    return default_weights(kinds, add_classification({name: kinds[name] for name in given}, given))


def test_is_added_with_the_smallest_weight_of_the_papers():
    assert rule() == {"ce": 1}
    assert rule("at") == {"ce": 1, "at": 1000}
    assert rule("simkd", "crd") == {"ce": 0, "simkd": 1, "crd": 0.8}
    assert rule("norm", "crd") == {"ce": 0.1, "norm": 1, "crd": 0.8}


def test_kd_has_its_small_share_of_labels_by_itself_only():
    assert rule("kd") == {"ce": 0.1, "kd": 0.9}
    assert rule("kd", at=0) == {"ce": 0.1, "kd": 0.9, "at": 0}  # nothing beside it
    for name in sorted(set(LOSSES) - {"ce", "kd"}):
        info = get_loss(name).info
        weight, of_ce = info.papers_weights(alone=False)
        expected = {name: weight, "kd": 1}
        if not info.contains_classification:
            expected["ce"] = of_ce  # SimKD 0, NORM 0.1, all others 1, SDD too, which has KD's share by itself
        assert (weight == info.default_weight) == (name != "sdd")
        assert rule(name, "kd") == expected
    assert rule("kd", "crd", "at") == {"ce": 1, "kd": 1, "crd": 0.8, "at": 1000}
    assert rule("at", kd=0.5) == {"ce": 1, "at": 1000, "kd": 0.5}


def test_is_left_alone_where_it_is_named_with_a_weight_or_contained():
    assert rule("kd", ce=1) == {"kd": 0.9, "ce": 1}
    assert rule("kd", ce=0) == {"kd": 0.9, "ce": 0}
    assert rule("kd", "at", ce=0.1) == {"kd": 1, "at": 1000, "ce": 0.1}
    assert rule("kd", "ce") == {"kd": 0.9, "ce": 0.1}
    assert rule("skd", "at") == {"skd": 1, "at": 1000}


COMBINATIONS = [
    *((name,) for name in LOSSES),
    *itertools.combinations(["at", "kd", "crd", "rkd", "rrd", "icd"], 2),
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
