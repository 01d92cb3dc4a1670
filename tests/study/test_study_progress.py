"""What is shown of students that train together, where there is no terminal."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
from pursuhint.cli.progress import TrainingProgress
from pursuhint.cli.study_progress import StudyProgress

from pursuhint.models import TeacherAccuracy
from pursuhint.study import ArmFinished, ArmResumed, ArmsStarted, PhaseStarted, StudyEvent
from pursuhint.training import DominantTerm, GroupStep, RecordingUse
from pursuhint.training.events import Event

# A value for every annotation of an event's fields.
VALUES = {
    "int": 1,
    "str": "x",
    "bool": False,
    "DominantTerm": DominantTerm("x", 0.95),
    "float | None": 1.0,
    "str | None": None,
    "tuple[str, ...]": ("x",),
    "tuple[int, ...]": (0,),
    "Mapping[str, float]": {"loss": 1.0},
    "RecordingUse": RecordingUse(Path("x"), epochs=2, replayed=1, size=1, rounding="none", records=True),
    "TeacherAccuracy": TeacherAccuracy("x", "y", reason="z"),
    "Mapping[str, Any]": {"stage": "main", "train_loss": 1.0, "test_top1": 50.0, "samples_per_second": 1.0},
}


def one_of_each(union):
    return [kind(*(VALUES[field.type] for field in fields(kind))) for kind in get_args(union)]


@pytest.mark.parametrize(("progress", "union"), [(TrainingProgress, Event), (StudyProgress, StudyEvent)])
def test_every_event_of_the_union_is_handled_and_nothing_else(capsys, progress, union):
    events = sorted(one_of_each(union), key=lambda event: "Finished" in type(event).__name__)
    with progress() as show:
        for event in [ArmsStarted(("x",), 0, 0, 1), *events] if progress is StudyProgress else events:
            show(event)
        with pytest.raises(AssertionError):
            show(object())


def test_one_line_for_all_students_of_a_seed(capsys, monkeypatch):
    clock = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    with StudyProgress(interval=10.0) as progress:
        progress(PhaseStarted("comparison", "training students"))
        progress(ArmsStarted(("alone", "at", "kd"), 4, 3, 12))
        progress(ArmResumed("at", 4, 1, 7, "an old state was damaged"))
        for step in range(1, 41):
            progress(GroupStep((0, 1, 2), 1 + (step - 1) // 10, 4, 1 + (step - 1) % 10, 10, 64))
            clock[0] += 1.0
        progress(ArmFinished("alone", 4, 4, 12, 91.234, "trained"))
        progress(ArmFinished("at", 4, 5, 12, None, "failed"))
    lines = capsys.readouterr().err.splitlines()
    assert lines[:4] == [
        "training students ...",
        "at, seed 4: resumed after epoch 1 and step 7 of the next",
        "at, seed 4: an old state was damaged",
        "[4-6 of 12] 3 students together, seed 4: epoch 1 of 4, 192 images/s, 0:38 left",
    ]
    assert [line.split("epoch ")[1][:6] for line in lines[4:-2]] == ["2 of 4", "3 of 4", "4 of 4"]
    assert lines[-2:] == ["[4 of 12] alone, seed 4: test top-1 91.23 %", "[5 of 12] at, seed 4: failed"]


def test_nothing_when_quiet(capsys):
    with StudyProgress(quiet=True) as progress:
        progress(ArmsStarted(("alone",), 0, 0, 1))
        progress(GroupStep((0,), 1, 1, 1, 2, 64))
        progress(ArmFinished("alone", 0, 1, 1, 50.0, "trained"))
    assert capsys.readouterr() == ("", "")
