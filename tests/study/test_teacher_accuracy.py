"""The teacher is measured once, before it teaches or is analyzed; files, events and reports have it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch

from pursuhint.analysis import Analysis, analyze
from pursuhint.data import make_loader
from pursuhint.errors import PursuhintWarning
from pursuhint.models import accuracy, create_model, evaluate
from pursuhint.models.checkpoint import load_weights, save_weights
from pursuhint.report import write_report
from pursuhint.study import Comparison, compare, compare_methods
from pursuhint.training import Recipe, RunRecord, TeacherMeasured, train
from tests.helpers.interrupted_runs import Interrupted
from tests.helpers.study_runs import few_digits, recipe, write_teacher

CHANCE = "the teacher resnet14 is near chance"


@pytest.fixture(scope="module")
def data():
    return few_digits(128, 128)


@pytest.fixture(scope="module")
def taught(data, tmp_path_factory) -> Path:
    """Weights of a resnet8 that knows some of the digits."""
    values = {"student": "resnet8", "data": "digits", "epochs": 2, "batch_size": 64, "schedule": "one-cycle"}
    run = train(Recipe.from_dict(values), tmp_path_factory.mktemp("taught"), device="cpu")
    return run.path / "student.safetensors"


@pytest.fixture
def passes(monkeypatch) -> list[int]:
    """One entry a measurement of a teacher."""
    found: list[int] = []
    monkeypatch.setattr(accuracy, "evaluate", lambda *a, **k: found.append(1) or evaluate(*a, **k))
    return found


def with_teacher(weights: Path, **more: object) -> Recipe:
    return recipe(weights, teacher={"network": "resnet8", "checkpoint": str(weights)}, **more)


def test_a_run_keeps_the_accuracy_of_its_teacher(data, taught, tmp_path, passes):
    events: list = []
    values = with_teacher(taught, epochs=2)

    def stop(event):
        events.append(event)
        if type(event).__name__ == "EpochFinished":
            raise Interrupted

    with pytest.raises(Interrupted):
        train(values, tmp_path / "run", data=data, device="cpu", on_event=stop)
    network = create_model("resnet8", num_classes=10, in_channels=1)
    load_weights(network, taught)
    expected = evaluate(network, make_loader(data, "test", batch_size=256, training=False))
    kinds = [type(event).__name__ for event in events]
    assert kinds.index("TeacherMeasured") < kinds.index("RunStarted")
    measured = next(event.accuracy for event in events if isinstance(event, TeacherMeasured))
    assert measured.top1 == expected.top1 > 50
    record = train(values, tmp_path / "run", data=data, device="cpu")
    assert len(passes) == 1  # not again on resuming
    assert record.teacher_accuracy == measured == RunRecord.load(tmp_path / "run").teacher_accuracy
    page = write_report(tmp_path / "run").read_text()
    assert re.search(rf"{measured.top1:.2f}\s% of the test samples right", page)
    assert "Warning:" not in page


def test_a_teacher_near_chance_is_one_warning_and_the_top_of_the_report(data, tmp_path):
    values = recipe(write_teacher(tmp_path))
    with pytest.warns(PursuhintWarning, match=CHANCE) as said:
        record = train(values, tmp_path / "run", data=data, device="cpu")
    assert len([one for one in said if CHANCE in str(one.message)]) == 1
    assert record.teacher_accuracy is not None
    assert record.teacher_accuracy.near_chance
    page = write_report(tmp_path / "run").read_text()
    assert page.index(f"Warning: {CHANCE}") < page.index("classifies")


def test_a_comparison_measures_once_for_all_runs_and_the_analysis(data, taught, tmp_path, passes):
    out, arms = tmp_path / "c", ("alone", "conventional", "kmeans")
    first = compare(with_teacher(taught), out, arms=arms, seeds=(0,), data=data, device="cpu")
    compare(with_teacher(taught), out, arms=arms, seeds=(0, 1), data=data, device="cpu")
    assert len(passes) == 1
    stored = Comparison.load(out).teacher
    assert stored.accuracy is not None
    assert stored.accuracy == first.teacher.accuracy
    assert stored.top1 == stored.accuracy.top1
    assert Analysis.load(out / "analysis").provenance.accuracy == stored.accuracy
    folders = {run.parent.name: run for run in (out / "arms").glob("*/seed-0")}  # equal arms share one
    runs = {arm: RunRecord.load(folder).teacher_accuracy for arm, folder in folders.items()}
    assert runs == {arm: None if arm == "alone" else stored.accuracy for arm in folders}
    assert {"alone", "conventional"} <= set(runs)


def test_an_interrupted_comparison_does_not_measure_again(data, taught, tmp_path, passes):
    def stop(event):
        if type(event).__name__ == "ArmsStarted":
            raise Interrupted

    options = {"arms": ("alone", "conventional"), "seeds": (0,), "data": data, "device": "cpu"}
    with pytest.raises(Interrupted):
        compare(with_teacher(taught), tmp_path / "c", on_event=stop, **options)
    compare(with_teacher(taught), tmp_path / "c", **options)
    assert len(passes) == 1


def test_a_study_of_methods_measures_once(data, taught, tmp_path, passes):
    values = with_teacher(taught).model_copy(update={"losses": {}})
    study = compare_methods(values, tmp_path / "m", methods=("kd",), seeds=(0,), data=data, device="cpu")
    assert len(passes) == 1
    assert study.teacher.accuracy is not None
    assert study.teacher.top1 == study.teacher.accuracy.top1


def test_a_study_warns_once_of_a_teacher_near_chance(data, tmp_path):
    options = {"arms": ("alone", "conventional"), "seeds": (0,), "data": data, "device": "cpu"}
    with pytest.warns(PursuhintWarning, match=CHANCE) as said:
        compare(recipe(write_teacher(tmp_path)), tmp_path / "c", **options)
    assert len([one for one in said if CHANCE in str(one.message)]) == 1
    page = write_report(tmp_path / "c").read_text()
    assert f"Warning: {CHANCE}" in page


def test_an_analysis_keeps_the_accuracy(data, taught, tmp_path, passes):
    network = create_model("resnet8", num_classes=10, in_channels=1)
    load_weights(network, taught)
    told: list = []
    options = {"k": 2, "batch_size": 32, "stability": False, "device": "cpu", "state": tmp_path / "state"}

    def stop(done, total):
        if done >= 64:
            raise Interrupted

    with pytest.raises(Interrupted):
        analyze(network, data, on_progress=stop, save_every=0, **options)
    found = analyze(network, data, on_accuracy=told.append, save_every=0, **options)
    assert len(passes) == 1
    assert not (tmp_path / "state").exists()
    found.save(tmp_path / "a")
    assert told == [found.provenance.accuracy] == [Analysis.load(tmp_path / "a").provenance.accuracy]
    assert json.loads((tmp_path / "a/analysis.json").read_text())["provenance"]["accuracy"]["top1"] > 50


def test_a_foreign_teacher_is_analyzed_without_an_accuracy(data, tmp_path):
    torch.manual_seed(0)
    network = create_model("resnet8", num_classes=7, in_channels=1)
    analyze(network, data, k=2, stability=False, device="cpu", network_name="foreign").save(tmp_path / "a")
    known = Analysis.load(tmp_path / "a").provenance.accuracy
    assert known is not None
    assert known.top1 is None
    page = write_report(tmp_path / "a").read_text()
    assert "accuracy not measured, since it returns 7 numbers an image" in page


def test_a_teacher_with_a_new_classifier_is_not_measured(data, tmp_path, passes):
    torch.manual_seed(0)
    save_weights(create_model("resnet8", num_classes=5, in_channels=1), tmp_path / "five.safetensors")
    teacher = {"network": "resnet8", "checkpoint": str(tmp_path / "five.safetensors"), "new_head": True}
    values = recipe(tmp_path / "five.safetensors", teacher=teacher, losses={"ce": 1.0, "at": 100.0})
    with pytest.warns(PursuhintWarning) as issued:
        record = train(values, tmp_path / "run", data=data, device="cpu")
    assert record.teacher_accuracy is not None
    assert (record.teacher_accuracy.top1, passes) == (None, [])
    (text,) = {str(warning.message) for warning in issued}  # and none of an accuracy near chance
    assert text.endswith("does not fill fc.weight, fc.bias: new and untrained")
    page = write_report(tmp_path / "run").read_text()
    assert "accuracy not measured, since its classifier is new and untrained" in page
