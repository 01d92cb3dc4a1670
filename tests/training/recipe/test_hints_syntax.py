"""What ``--hints`` and ``--set hints.KEY`` change, by the recipe that results."""

from __future__ import annotations

import json

import pytest
import torch

from pursuhint.analysis import AutoSamples
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.models import create_model
from pursuhint.training import Recipe, train
from pursuhint.training.recipe.hints_syntax import STRATEGIES, check_effect, parse_hints, with_hints
from pursuhint.training.recipe.resolve import resolve_recipe
from pursuhint.training.recipe.schema import HintsConfig


def typed(recipe: str, hints: str) -> HintsConfig:
    found = Recipe.from_dict(with_hints(Recipe.load(recipe).to_dict(), hints)).hints
    assert found is not None
    return found


def test_reads_strategies_points_and_files(tmp_path):
    (tmp_path / "plan").write_text("{}")
    assert [parse_hints(name) for name in STRATEGIES] == [{"strategy": name} for name in STRATEGIES]
    assert parse_hints("7,29, 49") == {"points": ["7", "29", "49"]}
    assert parse_hints("7") == {"points": ["7"]}
    assert parse_hints("layer1.0,layer3.0") == {"points": ["layer1.0", "layer3.0"]}
    for file in ("gone.json", "a/b", str(tmp_path / "plan")):
        assert parse_hints(file) == {"file": file}
    with pytest.raises(PursuhintError, match="no hint strategy named 'chosn'; did you mean 'chosen'"):
        parse_hints("chosn")


@pytest.mark.parametrize("strategy", ["conventional", "centers", "chosen", "random"])
@pytest.mark.parametrize("name", ["pursuhint-pre-at", "pursuhint-pre-vid", "pursuhint-post-resnet110"])
def test_a_strategy_keeps_the_other_keys_of_the_recipe(name, strategy):
    before, after = Recipe.load(name).hints, typed(name, strategy)
    kept = {"activation", "pairing", *(key for key in USED if strategy in USED[key])}
    assert after == HintsConfig(strategy=strategy, **{key: getattr(before, key) for key in kept})


def test_points_keep_what_is_not_about_choosing():
    assert typed("pursuhint-pre-at", "6,27,49,50") == HintsConfig(
        points=("6", "27", "49", "50"), strategy="explicit", activation="pre"
    )
    again = typed("cifar100-fsp", "conventional")  # the student's points belonged to the teacher's
    assert (again.strategy, again.points, again.student_points) == ("conventional", (), ())


def plan_file(folder, activation):
    network, example = create_model("resnet8", num_classes=10, in_channels=1), torch.zeros(1, 1, 8, 8)
    points = find_hint_points(network, example, activation=activation)
    HintPlan.explicit(points, [1, 3]).save(folder / f"{activation}.json")
    return str(folder / f"{activation}.json")


def test_a_plan_whose_activation_contradicts_the_recipe_is_refused(tmp_path):
    pre, post = (plan_file(tmp_path, activation) for activation in ("pre", "post"))
    values = {"student": "resnet8", "teacher": "resnet8", "losses": {"at": None}}
    for own in ({}, {"activation": "pre"}):
        resolved = resolve_recipe(Recipe.from_dict(with_hints({**values, "hints": own}, pre)))
        assert (resolved.hints.activation, resolved.hints.points) == ("pre", ("layer1.0", "layer3.0"))
    with pytest.raises(
        PursuhintError, match=r"post.json has post-activation points, but the recipe says .*pre"
    ):
        resolve_recipe(Recipe.from_dict(with_hints({**values, "hints": {"activation": "pre"}}, post)))


LOOKING = ("gradnorm", "quality", "probe", "ablation")  # at images, by an analysis or by themselves
USED = {
    "k": {
        "chosen",
        "random",
        "random-each-epoch",
        "curriculum",
        "even",
        "first",
        "last",
        "reverse",
        "all-to-one",
        "influence",
        *LOOKING,
    },
    "seed": {"chosen", "random", "random-each-epoch", "influence", *LOOKING},
    "metric": {"chosen", "influence", "gradnorm", "quality"},
    "algorithm": {"chosen"},
    "position": {"chosen", "all-to-one", "influence"},
    "samples": {"chosen", "influence", *LOOKING},
}
VALUES = {
    "k": "2",
    "seed": "1",
    "metric": "r2cca",
    "algorithm": "segments",
    "position": "last",
    "samples": "9",
}


@pytest.mark.parametrize("key", USED)
@pytest.mark.parametrize("strategy", [None, *STRATEGIES])
def test_a_key_that_the_strategy_ignores_is_refused(strategy, key):
    hints, assignment = HintsConfig(strategy=strategy), [f"hints.{key}={VALUES[key]}"]
    if strategy in USED[key]:
        check_effect(hints, assignment)
    else:
        with pytest.raises(PursuhintError, match=rf"hints.{key} has no effect with .*belongs to chosen"):
            check_effect(hints, assignment)


def recipe_with(hints: str) -> Recipe:
    return Recipe.from_yaml(f"student: resnet8\nteacher: resnet8\nlosses: {{at: 1}}\nhints: {hints}")


@pytest.mark.parametrize("key", USED)
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_key_that_the_strategy_of_a_file_ignores_is_refused(strategy, key):
    recipe = recipe_with(f"{{strategy: {strategy}, {key}: {VALUES[key]}}}")
    if strategy in USED[key]:
        assert str(getattr(resolve_recipe(recipe).hints, key)) == VALUES[key]
    else:
        with pytest.raises(
            PursuhintError, match=rf"hints.{key} has no effect with hints.strategy '{strategy}'"
        ):
            resolve_recipe(recipe)


@pytest.mark.parametrize(
    ("hints", "key"),
    [
        ("{metric: r2cca}", "metric"),
        ("{points: [1, 2], seed: 3}", "seed"),
        ("{file: plan.json, strategy: chosen}", "strategy"),
        ("{file: plan.json, k: 2}", "k"),
        ("{points: [1], student_points: [2], pairing: even}", "pairing"),
    ],
)
def test_a_key_beside_points_or_a_file_is_refused(hints, key):
    with pytest.raises(PursuhintError, match=rf"hints.{key} has no effect with"):
        resolve_recipe(recipe_with(hints))


@pytest.mark.parametrize("key", ["max_samples", "stable_at"])
def test_what_belongs_to_as_many_samples_as_needed_is_refused_with_a_number(key):
    value = {"max_samples": 900, "stable_at": 0.9}[key]
    auto = resolve_recipe(recipe_with(f"{{strategy: chosen, samples: auto, {key}: {value}}}")).hints
    assert auto.analyzed_samples == AutoSamples(**{key: value})
    assert auto.most_samples == auto.max_samples
    fixed = recipe_with(f"{{strategy: chosen, samples: 500, {key}: {value}}}")
    with pytest.raises(PursuhintError, match=rf"hints.{key} has no effect with a fixed number of samples"):
        resolve_recipe(fixed)
    with pytest.raises(PursuhintError, match=rf"hints.{key} has no effect"):
        check_effect(fixed.hints, [f"hints.{key}={value}"])


def test_rules_without_an_analysis_take_a_number_of_samples():
    for strategy in ("influence", "probe"):
        assert resolve_recipe(recipe_with(f"{{strategy: {strategy}, samples: auto}}")).hints.samples == "auto"
    for strategy in ("ablation", "centers"):
        with pytest.raises(PursuhintError, match=r"ends an analysis|no effect"):
            resolve_recipe(recipe_with(f"{{strategy: {strategy}, samples: auto}}"))
    assert resolve_recipe(recipe_with("{strategy: ablation, samples: 900}")).hints.samples == 900


def test_an_ignored_key_of_a_single_loss_is_refused():
    recipe = Recipe.from_yaml(
        "student: resnet8\nteacher: resnet8\nlosses: {at: {hints: {strategy: centers, k: 2}}}"
    )
    with pytest.raises(
        PursuhintError, match=r"losses.at.hints.k has no effect with hints.strategy 'centers'"
    ):
        resolve_recipe(recipe)


def test_the_recipe_of_a_run_and_one_that_changes_the_strategy_resolve(tmp_path):
    stored = resolve_recipe(
        Recipe.from_dict(with_hints(Recipe.load("pursuhint-pre-at").to_dict(), "centers"))
    )
    stored.save(tmp_path / "stored.yaml")
    assert resolve_recipe(Recipe.load(tmp_path / "stored.yaml")) == stored
    (tmp_path / "mine.yaml").write_text("extends: pursuhint-pre-at\nhints: {strategy: random, seed: 3}")
    hints = resolve_recipe(Recipe.load(tmp_path / "mine.yaml")).hints
    assert hints == HintsConfig(strategy="random", k=3, seed=3, activation="pre")
    changed = resolve_recipe(Recipe.load("pursuhint-pre-at").override("hints=conventional")).hints
    assert changed == HintsConfig(strategy="conventional", activation="pre")


def test_keys_of_all_strategies_and_resets_are_accepted():
    for assignment in ("hints.activation=pre", "hints.pairing=even", "hints.k=null", "optimizer.lr=1"):
        check_effect(HintsConfig(), [assignment])
    with pytest.raises(PursuhintError, match=r"hints.pairing has no effect"):
        check_effect(HintsConfig(student_points=("a",)), ["hints.pairing=even"])


def test_points_may_be_assigned_whatever_the_strategy_was():
    hints = Recipe.load("pursuhint-post-resnet110").override("hints.points=[7, 29, 49]").hints
    assert (hints.strategy, hints.points, hints.k) == ("explicit", ("7", "29", "49"), None)
    assert Recipe.from_yaml("student: resnet8\nhints: {points: [7, 29]}").hints.points == ("7", "29")


def test_positions_train_at_their_points(make_recipe, tmp_path):
    recipe = make_recipe(epochs=1, losses={"at": 10}, hints={"points": [3, 1, 1]})
    plan = train(recipe, tmp_path / "run", device="cpu").plan
    assert [point.module for point in plan.teacher_points] == ["layer3.0", "layer1.0", "layer1.0"]
    assert len(set(plan.student_points)) == 3  # one point of the teacher teaches two of the student
    assert [pair["teacher"]["position"] for pair in _file(tmp_path / "run")] == [3, 1, 1]


def test_a_position_that_is_not_there(make_recipe, tmp_path):
    recipe = make_recipe(losses={"at": 10}, hints={"points": [4]})
    with pytest.raises(
        PursuhintError, match="no hint point at position 4; this network has positions 1 to 3"
    ):
        train(recipe, tmp_path / "run", device="cpu")
    assert not (tmp_path / "run").exists()


def _file(folder):
    return json.loads((folder / "hints.json").read_text())["pairs"]
