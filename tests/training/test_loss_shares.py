"""A term with nearly all of the loss is named once, after the first epoch."""

from __future__ import annotations

import pytest

from pursuhint.study import compare
from pursuhint.training import RunRecord, dominant_term, train
from pursuhint.training.loss_shares import dominant_of_run
from tests.helpers.study_runs import few_digits, recipe, write_teacher


@pytest.fixture(scope="module")
def data():
    return few_digits()


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp("teacher"), "resnet8")


def test_shares_are_of_weighted_absolute_values():
    metrics = {"train_ce": 2.0, "train_kd": -3.0, "train_at": 0.05, "train_loss": 1.0}
    found = dominant_term(metrics, {"ce": 1.0, "kd": 1.0, "at": 1000.0})
    assert found.name == "at"
    assert found.share == pytest.approx(50 / 55)
    assert dominant_term(metrics, {"ce": 1.0, "kd": 1.0, "at": 899.0}) is None  # 44.95 of 49.95: 0.89990
    assert dominant_term(metrics, {"ce": 1.0, "kd": 1.0, "at": 901.0}).name == "at"
    assert dominant_term(metrics, {"kd": 20.0, "ce": 1.0}).share == pytest.approx(60 / 62)


def test_a_loss_without_rivals_dominates_nothing():
    metrics = {"train_ce": 2.0, "train_at": 0.05}
    assert dominant_term(metrics, {"ce": 1.0}) is None
    assert dominant_term(metrics, {"ce": 1.0, "at": 0.0}) is None
    assert dominant_term(metrics, {"ce": 1.0, "at": None}) is None
    assert dominant_term({"train_ce": 0.0, "train_at": 0.0}, {"ce": 1.0, "at": 1.0}) is None


def test_warm_ups_do_not_count_and_the_first_epoch_of_the_main_stage_does():
    warm_up = {"stage": "fitnet:hints", "train_fitnet": 9.0, "train_ce": 0.1}
    main = {"stage": "main", "train_fitnet": 0.1, "train_ce": 1.9}
    weights = {"ce": 1.0, "fitnet": 1.0}
    assert dominant_of_run([warm_up], weights) is None
    assert dominant_of_run([warm_up, main, {**main, "train_ce": 0.1}], weights).name == "ce"
    assert dominant_of_run([{**main, "train_ce": 0.2}, main], weights) is None


def said(events: list) -> list:
    return [event for event in events if type(event).__name__.endswith("LossDominated")]


@pytest.mark.parametrize(("weight", "times"), [(1e7, 1), (10.0, 0)])
def test_training_says_it_once_and_the_record_keeps_it(weight, times, data, teacher, tmp_path):
    events: list = []
    values = recipe(teacher, losses={"ce": 1.0, "kd": 0.9, "at": weight}, epochs=2)
    record = train(values, tmp_path / "run", data=data, device="cpu", on_event=events.append)
    assert [event.term for event in said(events)] == [record.dominant_term] * times
    assert RunRecord.load(record.path).dominant_term == record.dominant_term
    if times:
        assert record.dominant_term.name == "at"
        finished = [index for index, event in enumerate(events) if type(event).__name__ == "EpochFinished"]
        assert finished[0] < events.index(said(events)[0]) < finished[1]


def test_a_comparison_names_the_arms(data, teacher, tmp_path):
    events: list = []
    values = recipe(teacher, losses={"ce": 1.0, "kd": 0.9, "at": 1e7})
    result = compare(
        values, tmp_path, arms=("alone", "conventional"), seeds=(0, 1), data=data, device="cpu",
        on_event=events.append,
    )  # fmt: skip
    assert [(event.arm, event.seed) for event in said(events)] == [("conventional", 0), ("conventional", 1)]
    (finding,) = [finding for finding in result.findings if "the loss at makes up" in finding]
    assert "(conventional)" in finding
    assert result.arm("alone").runs[0].dominant_term is None
