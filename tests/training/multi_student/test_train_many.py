"""Several runs side by side: each is the run that it would have been alone."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.training import Recipe, RunRecord, train
from pursuhint.training.inputs import Inputs, Run
from pursuhint.training.multi_student.train_many import (
    GroupStarted,
    GroupStep,
    RunEnded,
    train_many,
)
from pursuhint.training.signals import RunStopped
from tests.helpers.study_runs import few_digits, write_teacher

ARMS: dict[str, dict[str, Any]] = {
    "alone": {"teacher": None},
    "at": {"losses": {"at": 100.0, "kd": 0.9}},
    "crd": {"losses": {"crd": {"weight": 0.8, "options": {"negatives": 32}}}},
    "dropout": {
        "student": {"network": "wrn_16_1", "options": {"dropout": 0.3}},
        "losses": {"kd": 0.9, "sp": 10.0},
    },
    "ab": {"losses": {"ab": {"weight": 1.0, "options": {"warm_up_epochs": 1}}}},
    "fsp": {"losses": {"fsp": {"weight": 1.0, "options": {"warm_up_epochs": 1}}}},
    "jacobian": {"losses": {"jacobian": 1.0, "kd": 0.5}},
}
"""Draws in a loss (CRD) and in a student, warm-up stages, gradients of the teacher, and no teacher."""


@pytest.fixture(scope="module")
def data():
    return few_digits(96, 32)


@pytest.fixture(scope="module")
def recipes(tmp_path_factory) -> dict[str, Recipe]:
    weights = write_teacher(tmp_path_factory.mktemp("teacher"), "resnet14")
    common = {
        "student": "resnet8",
        "teacher": {"network": "resnet14", "checkpoint": str(weights)},
        "optimizer": {"lr": 0.02},
        "schedule": "cosine",
        "epochs": 2,
        "batch_size": 32,
        "seed": 3,
    }
    return {name: Recipe.from_dict({**common, **changes}) for name, changes in ARMS.items()}


@pytest.fixture(scope="module")
def lone(recipes, data, tmp_path_factory) -> Path:
    """Every run alone, in the folder of its name."""
    out = tmp_path_factory.mktemp("lone")
    for name, recipe in recipes.items():
        train(recipe, out / name, device="cpu", data=data)
    return out


def runs_of(recipes, out: Path, data, names=tuple(ARMS), **watchers) -> list[Run]:
    return [Run(recipes[name], out / name, Inputs(data=data), watchers.get(name)) for name in names]


def without_wall_times(value: Any) -> Any:
    """JSON values but for times and provenance, and hashes of files that hold some."""
    if isinstance(value, dict):
        times = ("seconds", "samples_per_second", "sha256", "bytes", "provenance")
        return {key: without_wall_times(entry) for key, entry in value.items() if key not in times}
    return [without_wall_times(entry) for entry in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, Any]:
    """Everything in a run folder that must be the same."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_dir():
            continue
        if path.suffix == ".jsonl":
            found[name] = [without_wall_times(json.loads(line)) for line in path.read_text().splitlines()]
        elif name == "environment.json":
            found[name] = sorted(json.loads(path.read_text()))
        elif path.suffix == ".json":
            found[name] = without_wall_times(json.loads(path.read_text()))
        else:
            found[name] = path.read_bytes()
    return found


def assert_same(together: Path, lone: Path) -> None:
    ours, theirs = contents(together), contents(lone)
    assert sorted(ours) == sorted(theirs)
    different = [name for name, value in ours.items() if value != theirs[name]]
    assert not different


@pytest.fixture(scope="module")
def finished(recipes, data, tmp_path_factory):
    """All runs together, and what was told."""
    out, events = tmp_path_factory.mktemp("together"), []
    records = train_many(runs_of(recipes, out, data), device="cpu", on_event=events.append)
    return out, records, events


@pytest.mark.parametrize("name", ARMS)
def test_each_run_is_the_one_that_it_would_have_been_alone(finished, lone, name):
    """To the last bit: weights, states with their random numbers, metrics, and the same files."""
    assert_same(finished[0] / name, lone / name)


def test_the_records_are_those_of_the_folders(finished):
    out, records, _ = finished
    assert [record.path.name for record in records] == list(ARMS)
    for record in records:
        assert isinstance(record, RunRecord)
        assert record.metrics == RunRecord.load(out / record.path.name).metrics
        assert all(line["seconds"] > 0 for line in record.metrics)


def test_every_step_is_taken_by_all_that_have_it(finished):
    """The runs with a warm-up have a third epoch, which the others do not wait for."""
    _, _, events = finished
    steps = [event for event in events if isinstance(event, GroupStep)]
    assert [(event.epoch, event.step) for event in steps] == [(e, s) for e in (1, 2, 3) for s in (1, 2, 3)]
    everyone, longer = tuple(range(len(ARMS))), (list(ARMS).index("ab"), list(ARMS).index("fsp"))
    assert {event.runs for event in steps[:6]} == {everyone}
    assert {event.runs for event in steps[6:]} == {longer}
    assert events[0] == GroupStarted(everyone)
    ended = [event.run for event in events if isinstance(event, RunEnded)]
    assert sorted(ended) == list(everyone)
    assert tuple(ended[-2:]) == longer


def test_the_teacher_sees_every_batch_once(recipes, data, tmp_path, monkeypatch):
    from pursuhint.distillation.teacher import TeacherRunner

    calls, original = [], TeacherRunner.__call__

    def counted(self, *arguments):
        calls.append(self.outputs)
        return original(self, *arguments)

    monkeypatch.setattr(TeacherRunner, "__call__", counted)
    train_many(runs_of(recipes, tmp_path, data, ("alone", "at", "dropout")), device="cpu")
    assert len(calls) == 2 * 3  # epochs and steps
    assert {(len(needs.points), needs.logits) for needs in calls} == {(3, True)}


class Stop(Exception):
    """What ends a process in the middle."""


@pytest.mark.parametrize("where", ["EpochFinished", "StepDone"])
def test_after_a_crash_in_the_middle_the_same_call_gives_the_same_runs(recipes, data, lone, tmp_path, where):
    """One run has finished its first epoch and another has not, so they go on from different places."""
    names = ("alone", "crd", "ab")
    counts: Counter[str] = Counter()

    def watch(event):
        counts[type(event).__name__] += 1
        if type(event).__name__ == where and counts[where] == {"EpochFinished": 1, "StepDone": 5}[where]:
            raise Stop

    with pytest.raises(Stop):
        train_many(runs_of(recipes, tmp_path, data, names, crd=watch), device="cpu")
    done = [len((tmp_path / name / "metrics.jsonl").read_text().splitlines()) for name in ("alone", "crd")]
    assert done == [1, 1]
    assert (tmp_path / "ab" / "metrics.jsonl").exists() == (where == "StepDone")
    train_many(runs_of(recipes, tmp_path, data, names), device="cpu")
    for name in names:
        assert_resumed(tmp_path / name, lone / name)


def assert_resumed(folder: Path, lone: Path) -> None:
    """As one that was never stopped, but for the note that it was."""
    ours, theirs = contents(folder), contents(lone)
    for found in (ours, theirs):
        found.pop("state/latest", None)
        for name in [name for name in found if name.startswith("state/")]:
            del found[name]
    assert ours == theirs


def test_a_signal_saves_every_run_and_the_same_call_goes_on(recipes, data, lone, tmp_path):
    names = ("alone", "at", "crd")

    def watch(event):
        if type(event).__name__ == "StepDone" and event.step == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(RunStopped) as caught:
        train_many(runs_of(recipes, tmp_path, data, names, at=watch), device="cpu")
    assert caught.value.code == 128 + signal.SIGTERM
    resumed = []
    train_many(runs_of(recipes, tmp_path, data, names, alone=resumed.append), device="cpu")
    assert [event.step for event in resumed if type(event).__name__ == "Resumed"] == [2]  # one more step
    for name in names:
        assert_resumed(tmp_path / name, lone / name)


def test_runs_that_do_not_go_together_follow_each_other(recipes, data, lone, tmp_path):
    """Another seed has other batches; so has a call that allows only few students in memory."""
    other = recipes["at"].model_copy(update={"seed": 4})
    events = []
    runs = [
        *runs_of(recipes, tmp_path, data, ("alone", "at", "crd")),
        Run(other, tmp_path / "o", Inputs(data=data)),
    ]
    train_many(runs, device="cpu", at_once=2, on_event=events.append)
    assert [event.runs for event in events if isinstance(event, GroupStarted)] == [(0, 1), (2,), (3,)]
    for name in ("alone", "at", "crd"):
        assert_same(tmp_path / name, lone / name)


def test_finished_runs_are_not_trained_again(finished, recipes, data):
    out, records, _ = finished
    events = []
    again = train_many(runs_of(recipes, out, data), device="cpu", on_event=events.append)
    assert not any(isinstance(event, GroupStep) for event in events)
    assert [record.metrics for record in again] == [record.metrics for record in records]


def test_one_failure_need_not_stop_the_others(recipes, data, lone, tmp_path):
    broken = recipes["at"].override(["optimizer.lr=1e30"])
    runs = [Run(broken, tmp_path / "broken", Inputs(data=data)), *runs_of(recipes, tmp_path, data, ("crd",))]
    with pytest.raises(PursuhintError, match="is not finite"):
        train_many(runs, device="cpu")
    failed, crd = train_many(runs, device="cpu", keep_going=True)
    assert isinstance(failed, PursuhintError)
    assert isinstance(crd, RunRecord)
    assert_resumed(tmp_path / "crd", lone / "crd")


def test_leaves_the_callers_random_numbers_and_the_folders_free(recipes, data, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)

    def watch(event):
        if type(event).__name__ == "StepDone":
            raise Stop

    runs = runs_of(recipes, tmp_path, data, ("alone", "at"), at=watch)
    with contextlib.suppress(Stop):
        train_many(runs, device="cpu")
    assert torch.equal(torch.rand(3), expected)
    train(recipes["alone"], tmp_path / "alone", device="cpu", data=data)  # not locked any more


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"at_once": 0}, "at least 1 student must train concurrently, got 0"),
        ({}, "cannot have the same folder"),
    ],
)
def test_wrong_calls_are_refused_before_anything_happens(recipes, data, tmp_path, options, message):
    runs = runs_of(recipes, tmp_path, data, ("alone", "at") if options else ("alone", "alone"))
    with pytest.raises(PursuhintError, match=message):
        train_many(runs, device="cpu", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.gpu
@pytest.mark.parametrize("streams", [False, True])
def test_on_a_gpu_students_train_side_by_side(recipes, data, tmp_path, streams):
    if not torch.cuda.is_available():
        pytest.skip("needs a GPU")
    names = ("alone", "at", "crd", "ab")
    alone = [
        train(run.recipe, run.out, data=data) for run in runs_of(recipes, tmp_path / "lone", data, names)
    ]
    together = train_many(runs_of(recipes, tmp_path / "t", data, names), streams=streams)
    for one, other in zip(alone, together, strict=True):
        for mine, theirs in zip(one.metrics, other.metrics, strict=True):
            assert mine["train_loss"] == pytest.approx(theirs["train_loss"], rel=1e-3)
