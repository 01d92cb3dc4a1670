"""Runs whose hint points change from epoch to epoch: recipe, resuming, sharing, caching."""

from __future__ import annotations

import itertools
import math

import pytest

from pursuhint.errors import PursuhintError
from pursuhint.hints import DrawnEachEpoch, HintPlan
from pursuhint.hints.schedules.random_each_epoch import draw
from pursuhint.training import Recipe, train
from pursuhint.training.inputs import Inputs, Run
from pursuhint.training.multi_student.train_many import train_many
from tests.helpers.interrupted_runs import assert_same, few_digits, interrupt_at, without_wall_times
from tests.helpers.interrupted_runs import train as train_few_digits
from tests.helpers.study_runs import write_teacher

DRAWN = {"strategy": "random-each-epoch", "k": 2, "seed": 5}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def recipe(weights) -> Recipe:
    return Recipe.from_dict(
        {
            "student": "resnet8",
            "teacher": {"network": "resnet14", "checkpoint": str(weights)},
            "losses": {"vid": 1, "kd": 0.9},
            "hints": DRAWN,
            "optimizer": {"lr": 0.02},
            "schedule": "one-cycle",
            "epochs": 3,
            "batch_size": 64,
        }
    )


@pytest.fixture(scope="module")
def uninterrupted(recipe, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train_few_digits(recipe, folder)
    return folder


def test_hints_json_has_what_teaches_in_every_epoch(uninterrupted):
    plan = HintPlan.load(uninterrupted / "hints.json")
    assert isinstance(plan.schedule, DrawnEachEpoch)
    for epoch, pairs in enumerate(plan.schedule.epochs):
        teachers = tuple(plan.pairs[pair].teacher.position - 1 for pair in pairs)
        assert teachers == draw(6, 2, seed=5, epoch=epoch)
        students = [plan.pairs[pair].student.position for pair in pairs]
        assert students == [1, 3]
    assert len(plan.schedule.epochs) == 3
    assert plan.origin == {"strategy": "random-each-epoch", "k": 2, "seed": 5, "pairing": "even"}


@pytest.mark.parametrize(
    ("kind", "count"), [("EpochFinished", 1), ("StepDone", 6)], ids=["between", "within"]
)
def test_a_resumed_run_has_the_draws_of_an_uninterrupted_one(recipe, uninterrupted, tmp_path, kind, count):
    saving = recipe.override(["save_every_steps=1"])
    interrupt_at(saving, tmp_path / "run", kind, count)
    train_few_digits(saving, tmp_path / "run")
    assert_same(tmp_path / "run", uninterrupted)


def test_students_that_share_a_pass_are_the_students_alone(recipe, uninterrupted, tmp_path):
    other = recipe.override(["hints.seed=6"])
    data = few_digits()
    runs = [Run(each, tmp_path / name, Inputs(data=data)) for name, each in (("a", recipe), ("b", other))]
    train_many(runs, device="cpu")
    assert_same(tmp_path / "a", uninterrupted)
    assert without_wall_times(tmp_path / "a") != without_wall_times(tmp_path / "b")


def test_a_cached_teacher_holds_the_points_of_all_epochs(recipe, tmp_path):
    plain = recipe.override(["data.augment=none", "epochs=2", "losses.kd=null"])
    cached = plain.override(["acceleration.cache_teacher=true"])
    for name, each in (("plain", plain), ("cached", cached)):
        train_few_digits(each, tmp_path / name)
    first, second = (without_wall_times(tmp_path / name) for name in ("plain", "cached"))
    for one, other in zip(first, second, strict=True):
        assert one["train_vid"] == pytest.approx(other["train_vid"], rel=1e-3)


def test_a_loss_may_have_a_schedule_of_its_own(recipe, tmp_path):
    losses = {"at": {"weight": 10.0, "hints": DRAWN}, "vid": {"weight": 1.0, "hints": "conventional"}}
    changed = Recipe.from_dict({**recipe.to_dict(), "losses": losses, "hints": None, "epochs": 1})
    record = train_few_digits(changed, tmp_path / "run")
    assert record.plans["at"].schedule is not None
    assert record.plans["vid"].schedule is None


def test_the_number_of_hints_must_fit(recipe, tmp_path):
    for k, message in ((7, "cannot draw 7 hint points from 6 layers"), (4, "the student has 3 candidate")):
        with pytest.raises(PursuhintError, match=message):
            train_few_digits(recipe.override([f"hints.k={k}"]), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_plan_that_changes_is_no_plan_for_another_run(recipe, uninterrupted, tmp_path):
    taken = Recipe.from_dict({**recipe.to_dict(), "hints": {"file": str(uninterrupted / "hints.json")}})
    with pytest.raises(PursuhintError, match=r"--hints random-each-epoch --set hints\.seed=5"):
        train_few_digits(taken, tmp_path / "run")
    with pytest.raises(PursuhintError, match=r"has no effect with hints\.strategy 'random-each-epoch'"):
        train(recipe.override(["hints.metric=r2cca"]), tmp_path / "run", device="cpu")


@pytest.fixture(scope="module")
def curriculum(recipe) -> Recipe:
    """Of three layers; the similarity of an untrained teacher is enough after one epoch or two."""
    hints = {"strategy": "curriculum", "k": 3, "curriculum": {"threshold": 0.3, "smoothing": 0.2}}
    values = {**recipe.to_dict(), "losses": {"vid": 1, "at": 10}, "hints": hints, "epochs": 4}
    return Recipe.from_dict({**values, "schedule": {"kind": "cosine", "warmup_epochs": 1}})


@pytest.fixture(scope="module")
def whole_curriculum(curriculum, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "curriculum"
    train_few_digits(curriculum, folder)
    return folder


def test_a_curriculum_moves_on_and_begins_the_learning_rate_anew(curriculum, whole_curriculum):
    lines = without_wall_times(whole_curriculum)
    targets = [line["train_at_target"] for line in lines]
    assert targets == [line["train_vid_target"] for line in lines]  # both losses look at one curriculum
    assert targets[0] == 1
    assert targets[-1] == 3
    assert all(later - before in (0, 1) for before, later in itertools.pairwise(targets))
    moved = max(index for index in range(1, 4) if targets[index] != targets[index - 1])
    left = 4 - moved
    assert lines[moved]["lr"] == pytest.approx(rate((3 / 4) / left))  # the last of four steps
    assert HintPlan.load(whole_curriculum / "hints.json").schedule == curriculum.hints.curriculum


def rate(progress: float) -> float:
    return 0.02 * 0.5 * (1 + math.cos(math.pi * progress))


@pytest.mark.parametrize(
    ("kind", "count"), [("EpochFinished", 2), ("StepDone", 11)], ids=["between", "within"]
)
def test_a_resumed_curriculum_is_where_it_was(curriculum, whole_curriculum, tmp_path, kind, count):
    saving = curriculum.override(["save_every_steps=1"])
    interrupt_at(saving, tmp_path / "run", kind, count)
    train_few_digits(saving, tmp_path / "run")
    assert_same(tmp_path / "run", whole_curriculum)


def test_keys_of_a_curriculum_belong_to_it_and_it_names_its_own_pairing(curriculum, recipe, tmp_path):
    for changed, message in (
        (recipe.override(["hints.curriculum.cap=2"]), "hints.curriculum has no effect"),
        (curriculum.override(["hints.pairing=even"]), "hints.pairing has no effect"),
        (curriculum.override(["hints.seed=2"]), "hints.seed has no effect"),
        (
            curriculum.override(["hints.student_points=layer1.0,layer2.0"]),
            "2 student points were named for 3",
        ),
    ):
        with pytest.raises(PursuhintError, match=message):
            train_few_digits(changed, tmp_path / "run")
    named = curriculum.override(["hints.student_points=layer2.0", "epochs=3", "hints.curriculum.cap=1"])
    record = train_few_digits(named, tmp_path / "run")
    assert [pair.student.module for pair in record.plan.pairs] == ["layer2.0"] * 3
    assert [line["train_at_target"] for line in record.metrics] == [1, 2, 3]
