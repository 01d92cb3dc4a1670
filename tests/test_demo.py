"""The demo, much shortened."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from pursuhint.cli.main import main

from pursuhint.demo import demo, student_recipe, teacher_recipe
from pursuhint.errors import PursuhintError

SHORT = {"arms": ("conventional", "kmeans"), "seeds": (0, 1), "teacher_epochs": 1, "student_epochs": 1}


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    events = []
    result = demo(tmp_path_factory.mktemp("demo") / "d", device="cpu", on_event=events.append, **SHORT)
    return result, events


def test_tells_its_parts_in_order(shown):
    _, events = shown
    phases = [event.name for event in events if type(event).__name__ == "PhaseStarted"]
    assert list(dict.fromkeys(phases)) == ["teacher", "analysis", "comparison", "report"]


def test_leaves_teacher_analysis_comparison_and_report(shown):
    result, _ = shown
    assert result.teacher.finished
    assert result.analysis.metrics == ("cka", "r2cca")
    assert len(result.analysis.candidates) == 15
    assert [arm.name for arm in result.comparison.arms] == ["conventional", "kmeans"]
    assert result.comparison.data.train == 150
    assert result.report == result.path / "report.html"
    page = result.report.read_text(encoding="utf-8")
    assert "pursuhint demo" in page
    assert f"{result.teacher.last['test_top1']:.2f}" in page


def test_command_prints_what_it_found(shown, monkeypatch, capsys):
    result, _ = shown
    monkeypatch.setattr("pursuhint.demo.demo", lambda *_, **__: result)
    main.main(args=["demo", "--quiet", "--json"], standalone_mode=False)
    found = json.loads(capsys.readouterr().out)
    assert found["report"] == str(result.report)
    assert found["hint_positions"] == [point.position for point in result.analysis.plan.teacher_points]


def test_command_ends_with_one_sentence_and_the_path_within_80_columns(shown, monkeypatch, capsys):
    result, _ = shown
    monkeypatch.setattr("pursuhint.demo.demo", lambda *_, **__: result)
    texts = []
    for width in ("80", "9999"):
        monkeypatch.setenv("COLUMNS", width)
        main.main(args=["demo", "--quiet"], standalone_mode=False)
        texts.append(capsys.readouterr().out)
    narrow, wide = texts
    *lines, sentence, path = wide.splitlines()
    assert sentence == f"In one sentence: {result.comparison.result}"
    assert path == f"With pictures: {result.report}"
    assert narrow.splitlines()[-1] == path  # a path stays whole, to be copied
    assert max(map(len, narrow.splitlines()[:-1])) <= 80 < max(map(len, lines))
    assert set(narrow.split()) == set(wide.split())  # nothing is lost, and no number is broken


def test_a_second_call_picks_up_everything(shown):
    result, _ = shown
    events, threads = [], torch.get_num_threads()
    again = demo(result.path, device="cpu", on_event=events.append, **SHORT)
    assert torch.get_num_threads() == threads  # it computes on one core, and puts that back
    assert not any(type(event).__name__ == "EpochFinished" for event in events)
    assert again.comparison == result.comparison


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "letter.txt").write_text("dear", encoding="utf-8")
    with pytest.raises(PursuhintError, match=r"holds something else \(letter\.txt\), not a demo"):
        demo(tmp_path, **SHORT)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_overwrite_replaces_the_demo_of_another_version(shown, tmp_path):
    old = shutil.copytree(shown[0].path, tmp_path / "old")
    (old / "demo.json").write_text('{"schema": 0}')
    with pytest.raises(PursuhintError, match=r"not written by this version.*--overwrite"):
        demo(old, **SHORT)

    def stop(event):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        demo(old, **SHORT, overwrite=True, on_event=stop)
    assert [path.name for path in old.iterdir()] == ["demo.json"]


def test_the_recipes_differ_in_nothing_but_what_they_are_for(tmp_path):
    teacher, student = teacher_recipe(3), student_recipe(2, tmp_path / "t.safetensors")
    assert teacher.student == student.teacher.model_copy(update={"checkpoint": None})
    assert teacher.data == student.data.model_copy(update={"train_samples": None})
    assert set(student.losses) == {"ce", "kd", "at"}
