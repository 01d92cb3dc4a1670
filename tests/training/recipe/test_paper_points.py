"""A loss looks where its paper looks, unless the recipe says otherwise: the taps of the distiller."""

from __future__ import annotations

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses import LOSSES, get_loss
from pursuhint.models import create_model
from pursuhint.report import write_report
from pursuhint.training import Recipe, RunRecord, train
from pursuhint.training.inputs import Inputs
from pursuhint.training.prepare_training import build_distiller, prepare
from pursuhint.training.recipe.resolve import resolve_recipe

STAGES = ["layer1.2", "layer2.2", "layer3.2"]


def taps(losses, hints=None, teacher="resnet20"):
    """The teacher's points that every loss sees, as (module, activation), and the student's modules."""
    torch.manual_seed(0)
    recipe = {"student": "resnet8", "teacher": teacher, "data": "digits", "losses": losses, "hints": hints}
    inputs = Inputs(teacher=create_model(teacher, num_classes=10, in_channels=1))
    resolved = resolve_recipe(Recipe.from_dict(recipe), inputs)
    assert resolve_recipe(Recipe.from_yaml(resolved.dump()), inputs) == resolved
    parts = prepare(resolved, inputs)
    distiller = build_distiller(resolved, parts, parts.plan)
    found = {}
    for name in resolved.losses:
        own, other = distiller._selected[name]
        students = [distiller._student_points[index].module for index in own]
        teachers = [distiller._teacher_points[index] for index in other]
        found[name] = ([(point.module, point.activation) for point in teachers], students)
    return found


def at(modules, activation="post"):
    return [(module, activation) for module in modules]


@pytest.mark.parametrize(
    ("loss", "teachers", "students"),
    [
        *((name, at(STAGES), ["layer1.0", "layer2.0", "layer3.0"]) for name in ("at", "vid", "nst", "kdsvd")),
        *((name, at(STAGES, "pre"), ["layer1.0", "layer2.0", "layer3.0"]) for name in ("ofd", "ab")),
        *((name, at(["layer3.2"]), ["layer3.0"]) for name in ("sp", "ft")),
        ("fitnet", at(["layer2.2"]), ["layer2.0"]),
        ("fsp", at(["relu", *STAGES]), ["relu", "layer1.0", "layer2.0", "layer3.0"]),
        (
            "afd",
            at([f"layer{s}.{b}" for s in (1, 2, 3) for b in (0, 1, 2)]),
            ["layer1.0", "layer2.0", "layer3.0"],
        ),
    ],
)
def test_a_loss_alone_looks_where_its_paper_looks(loss, teachers, students):
    assert taps({loss: None})[loss] == (teachers, students)
    assert taps({loss: None, "kd": None})[loss] == (teachers, students)


@pytest.mark.parametrize("loss", ["reviewkd", "distpro"])
def test_reviews_look_before_the_activation(loss):
    teachers, _ = taps({loss: None})[loss]
    assert {activation for _, activation in teachers if activation} == {"pre"}


@pytest.mark.parametrize("loss", ["sp", "ofd", "fitnet"])
def test_the_recipe_decides_what_it_names(loss):
    teachers, _ = taps({loss: None}, {"strategy": "conventional", "activation": "post"})[loss]
    assert teachers == at(STAGES)
    own = get_loss(loss).info.activation
    assert taps({loss: None}, "conventional")[loss][0] == at(STAGES, own)  # silent about the activation
    assert taps({loss: None}, {"points": [2]})[loss][0] == at(["layer1.1"], own)


def test_losses_of_one_run_look_at_different_points():
    found = taps({"sp": None, "at": None, "ofd": None, "kd": None})
    assert found["sp"][0] == at(["layer3.2"])
    assert found["at"][0] == at(STAGES)
    assert found["ofd"][0] == at(STAGES, "pre")
    assert found["kd"] == found["ce"] == ([], [])


def test_a_loss_may_have_points_of_its_own():
    found = taps({"sp": {"hints": {"points": [1]}}, "at": {"p": 1}}, "centers")
    assert found["sp"][0] == at(["layer1.0"])
    assert found["at"][0] == at(["layer1.1", "layer2.1", "layer3.1"])
    with pytest.raises(PursuhintError, match=r"no loss looks at them \(kd\)"):
        taps({"kd": {"hints": "conventional"}})
    with pytest.raises(PursuhintError, match="'chosen' belongs to the recipe's own hints"):
        taps({"at": {"hints": "chosen"}})


def test_a_run_writes_them_out_and_repeats_itself(make_recipe, tmp_path):
    recipe = make_recipe(losses={"sp": 10, "at": 10}, epochs=1).model_copy(update={"hints": None})
    first = train(recipe, tmp_path / "first", device="cpu")
    assert first.recipe.hints is None
    strategies = {name: loss.hints and loss.hints.strategy for name, loss in first.recipe.losses.items()}
    assert strategies == {"ce": None, "sp": "last-map", "at": "conventional"}
    plans = RunRecord.load(tmp_path / "first").plans
    assert {name: [p.module for p in plan.teacher_points] for name, plan in plans.items()} == {
        "sp": ["layer3.0"],
        "at": ["layer1.0", "layer2.0", "layer3.0"],
    }
    page = write_report(tmp_path / "first").read_text(encoding="utf-8")
    assert "sp: The hint points were at the end of the last resolution stage." in page
    assert "at: The hint points were at the last sub-block of every resolution stage" in page
    second = train(Recipe.load(tmp_path / "first" / "recipe.yaml"), tmp_path / "second", device="cpu")
    assert second.recipe == first.recipe
    assert [line["test_loss"] for line in second.metrics] == [line["test_loss"] for line in first.metrics]


def test_every_loss_with_a_plan_declares_its_points():
    looking = [name for name in LOSSES if get_loss(name).needs_hint_plan()]
    others = [name for name in LOSSES if name not in looking]
    assert {name for name in looking if get_loss(name).info.activation == "pre"} == {
        "ofd", "ab", "reviewkd", "distpro",
    }  # fmt: skip
    assert all(get_loss(name).info.points == "stages" for name in others)  # they have none
