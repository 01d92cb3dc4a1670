"""pursuhint compare, of methods and of hint positions."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.models import create_model

QUICK = (
    "--student",
    "resnet8",
    "--data",
    "digits",
    "--epochs",
    "1",
    "--batch-size",
    "512",
    "--device",
    "cpu",
)


@pytest.fixture
def taught(teacher_file):
    return (*QUICK, "--teacher", "resnet8", "--teacher-checkpoint", teacher_file, "--seeds", "0")


def test_methods(pursuhint, taught, tmp_path):
    out = tmp_path / "m"
    call = ("compare", *taught, "--method", "kd", "--method", "at=10+kd", "--out", out)
    done = pursuhint(*call)
    assert done.returncode == 0, done.stderr
    assert "resnet8 taught by resnet8 on digits" in done.stdout
    assert "AT + KD (at=10+kd)" in done.stdout
    assert "[3 of 3]" in done.stderr
    assert (out / "report.html").exists()
    again = pursuhint(*call, "--json", "--at-once", "1")
    found = json.loads(again.stdout)
    assert [method["name"] for method in found["methods"]] == ["alone", "kd", "at=10+kd"]
    assert "(was there)" in again.stderr
    assert pursuhint("report", out).returncode == 0


def test_positions_train_together_behind_one_progress(pursuhint, taught, tmp_path):
    out = tmp_path / "c"
    arms = ("--arm", "alone", "--arm", "conventional")
    done = pursuhint("compare", *taught, "--loss", "at", *arms, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("test top-1") == 2
    assert "comparing the layers" not in done.stderr  # no arm needs an analysis


def arms_of(pursuhint, *call):
    done = pursuhint("compare", *call, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def recipe_of(folder):
    return yaml.safe_load((folder / "seed-0" / "recipe.yaml").read_text())


def test_methods_take_the_protocol_of_a_recipe_and_not_its_losses(pursuhint, taught, tmp_path):
    out = tmp_path / "m"
    methods = ("--method", "sp", "--method", "recipe:cifar100-afd")
    arms_of(pursuhint, "--recipe", "pursuhint-post-resnet110", *taught, *methods, "--out", out)
    sp, afd = recipe_of(out / "arms" / "sp"), recipe_of(out / "arms" / "recipe_cifar100-afd")
    assert sp["schedule"]["milestones"] == afd["schedule"]["milestones"] == [150, 180, 210]
    assert set(sp["losses"]) == {"ce", "sp"}
    assert sp["hints"]["strategy"] == "last-map"
    weights = {name: loss["weight"] for name, loss in afd["losses"].items()}
    assert weights == {"ce": 1, "kd": 0.9, "afd": 200}
    assert pursuhint("report", out).returncode == 0


def test_hints_of_all_methods(pursuhint, taught, tmp_path):
    out = tmp_path / "m"
    methods = ("--method", "at=10", "--method", "kd")
    arms_of(pursuhint, *taught, *methods, "--hints", "3,1", "--out", out)
    pairs = json.loads((out / "arms" / "at_10" / "seed-0" / "hints.json").read_text())["pairs"]
    assert [pair["teacher"]["position"] for pair in pairs] == [3, 1]
    assert recipe_of(out / "arms" / "kd")["hints"] is None


def test_arms_with_given_points(pursuhint, taught, tmp_path):
    out, plan = tmp_path / "c", tmp_path / "hints.json"
    network, example = create_model("resnet8", num_classes=10, in_channels=1), torch.zeros(1, 1, 8, 8)
    HintPlan.explicit(find_hint_points(network, example), [2]).save(plan)
    arms = ("--arm", "conventional", "--arm", "hints:1,3,3", "--arm", f"hints:{plan}")
    found = arms_of(pursuhint, *taught, "--loss", "at=10", *arms, "--out", out)
    assert [arm["runs"][0]["positions"] for arm in found["arms"]] == [[1, 2, 3], [1, 3, 3], [2]]
    page = (out / "report.html").read_text()
    assert "hints at 1,3,3" in page
    call = (*taught, "--loss", "at=10", "--activation", "pre", *arms, "--out", tmp_path / "d")
    refused = pursuhint("compare", *call)
    assert "has post-activation points, but the recipe says hints.activation: pre" in refused.stderr
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "kd", "--arm", "alone"), "--arm compares hint positions and --method losses"),
        (("--method", "kdd"), "no loss named 'kdd'"),
        (("--method", "kd", "--loss", "at"), "--method brings its own losses"),
        (("--loss", "at", "--hints", "3"), "to compare positions, give --arm hints:3"),
        (("--loss", "at", "--arm", "alone", "--arm", "hints:9"), "no hint point at position 9"),
        (("--loss", "at", "--arm", "alone", "--arm", "hints:x.json"), "no hint plan at x.json"),
        (("--loss", "at", "--arm", "kmean", "--arm", "alone"), "no arm named 'kmean'; did you mean"),
        (("--loss", "at", "--set", "hints.strategy=random"), "hints.strategy has no effect here"),
        (("--method", "at", "--k", "2"), "hints.k has no effect with the points of each loss's paper"),
        (("--method", "at", "--hints", "centers", "--metric", "r2cca"), "hints.metric has no effect with"),
        (("--method", "recipe:cifar100-vanilla"), "has no loss that looks at a teacher"),
        (("--method", "recipe:pursuhint-pre-at"), "chooses its hint points by an analysis"),
    ],
)
def test_wrong_calls(pursuhint, taught, tmp_path, arguments, message):
    done = pursuhint("compare", *taught, *arguments, "--out", tmp_path / "x")
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "x").exists()


def test_arms_are_crossed_with_losses_and_lengths(pursuhint, taught, tmp_path):
    words = [word for word in QUICK if word not in ("--epochs", "1")]
    out = tmp_path / "out"
    arms = ("--arm", "conventional", "--arm", "even")
    sets = ("--loss-set", "a=at", "--loss-set", "s=sp,kd")
    done = pursuhint(
        "compare", *words, *taught, *arms, *sets, "--epochs", "1,2", "--seeds", "0", "--out", out, "--json"
    )
    assert done.returncode == 0, done.stderr
    cells = json.loads(done.stdout)["cells"]
    assert [(cell["loss_set"], cell["epochs"]) for cell in cells] == [("a", 1), ("a", 2), ("s", 1), ("s", 2)]
    assert (out / "report.html").exists()
    recipe = yaml.safe_load((out / cells[3]["folder"] / "arms/conventional/seed-0/recipe.yaml").read_text())
    assert (recipe["epochs"], set(recipe["losses"])) == (2, {"ce", "sp", "kd"})
