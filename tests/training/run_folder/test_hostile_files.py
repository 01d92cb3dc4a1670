"""Damaged or hostile files of a run folder end in one line that names file and entry."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pursuhint.errors import PursuhintError
from pursuhint.report import write_report
from pursuhint.training import Recipe, RunRecord, train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run")
    train(Recipe.from_dict({"student": "resnet8", "epochs": 1}), out, device="cpu")
    return out


def broken(folder: Path, tmp_path: Path, name: str, path: tuple[Any, ...], value: Any) -> Path:
    """A copy of the run folder with one entry of a JSON file replaced."""
    for file in folder.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_bytes(file.read_bytes())
    values = json.loads((tmp_path / name).read_text())
    place = values
    for key in path[:-1]:
        place = place[key]
    if value is KeyError:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    (tmp_path / name).write_text(json.dumps(values) + "\n")
    return tmp_path


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("data",), KeyError),
        (("data",), [None]),
        (("data", "num_classes"), 10**12),
        (("data", "num_classes"), 1.5),
        (("data", "in_channels"), "many"),
        (("data", "image_size"), [8]),
        (("data", "image_size"), [-1, 8]),
        (("data", "image_size"), [60_000, 60_000]),
        (("data", "samples"), {"train": []}),
        (("parameters",), "nonsense"),
        (("parameters", "student"), [None]),
        (("inputs",), [["data"]]),
        (("packages", "torch"), "\ud800"),
        (("command",), {"a": 1}),
    ],
)
def test_environment(path: tuple[Any, ...], value: Any, folder: Path, tmp_path: Path) -> None:
    run = broken(folder, tmp_path, "environment.json", path, value)
    with pytest.raises(PursuhintError) as caught:
        RunRecord.load(run)
    message = str(caught.value)
    assert "environment.json" in message
    assert "\n" not in message
    assert value == "\ud800" or path[0] in message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("test_top1", KeyError),
        ("test_top1", None),
        ("epoch", "first"),
        ("train_ce", "nonsense"),
        ("seconds", ["cka"]),
        ("test_top5", []),
        ("stage", 3),
        ("lr", True),
    ],
)
def test_metrics(name: str, value: Any, folder: Path, tmp_path: Path) -> None:
    run = broken(folder, tmp_path, "metrics.jsonl", (name,), value)
    with pytest.raises(PursuhintError, match=rf"metrics\.jsonl, line 1 is not valid: {name}"):
        RunRecord.load(run)


@pytest.mark.parametrize("text", ["[]\n", "7\n", "{} {}\n", '"text"\n'])
def test_metrics_of_another_kind(text: str, folder: Path, tmp_path: Path) -> None:
    run = broken(folder, tmp_path, "metrics.jsonl", ("epoch",), 1)
    (run / "metrics.jsonl").write_text(text)
    with pytest.raises(PursuhintError, match=r"metrics\.jsonl"):
        RunRecord.load(run)


def test_files_with_more_in_them_are_read(folder: Path, tmp_path: Path) -> None:
    run = broken(folder, tmp_path, "environment.json", ("new",), {"of": ["a later version"]})
    record = RunRecord.load(run)
    assert record.environment["new"] == {"of": ["a later version"]}
    assert record.environment["data"]["image_size"] == [8, 8]
    record.load_student()
    assert write_report(run).is_file()
