"""Results say which command, versions, network and data they come from."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import warnings
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import click
import pytest
import torch
from click.testing import CliRunner

from cli.command_line import pasteable
from cli.main import main
from pursuhint import __version__
from pursuhint.hints import HintPlan
from pursuhint.models import create_model
from pursuhint.models.checkpoint import save_weights
from pursuhint.report.repeat import _FLAGS_OF_TEACHER_AND_DATA, _OF_TEACHER_AND_DATA


def command_of(*words: str) -> str:
    """The line that a command records for these words; the command itself does not run."""
    found: list[str] = []
    command = main.get_command(click.Context(main), words[0])
    assert command is not None
    with command.make_context(words[0], list(words[1:])) as context:
        found.append(pasteable(context))
    return found[0]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("analyze --teacher resnet8 --out a", "analyze --teacher resnet8 --out {here}/a"),
        (
            "analyze --teacher resnet8 --teacher-checkpoint w/t.pth --data folder:p --no-stability --out a",
            "analyze --teacher resnet8 --teacher-checkpoint {here}/w/t.pth --data folder:{here}/p "
            "--no-stability --out {here}/a",
        ),
        (
            "analyze --teacher resnet8 --metric cka --metric r2cca --k auto --memory-limit 500MB --out /a -q",
            "analyze --teacher resnet8 --metric cka --metric r2cca --k auto --memory-limit 500000000 "
            "--out /a --quiet",
        ),
        (
            "train --recipe own.yaml --hints h.json --set data.root=d --set epochs=2 --out 'a run'",
            "train --recipe {here}/own.yaml --set data.root={here}/d --set epochs=2 --hints {here}/h.json "
            "--out '{here}/a run'",
        ),
        (
            "train --recipe cifar100-at --hints 1,2 --out r",
            "train --recipe cifar100-at --hints 1,2 --out {here}/r",
        ),
        (
            "train --recipe own.yaml:wide --hints centers --out r",
            "train --recipe {here}/own.yaml:wide --hints centers --out {here}/r",
        ),
        (
            "compare --student resnet8 --arm alone --arm hints:h.json --arm hints:1,2 --out c",
            "compare --student resnet8 --arm alone --arm hints:{here}/h.json --arm hints:1,2 --out {here}/c",
        ),
        (
            "transfer a w --to stl10 --to folder:p --save t",
            "transfer {here}/a {here}/w --to stl10 --to folder:{here}/p --save {here}/t",
        ),
        ("select a --k 3 --out h.json", "select {here}/a --k 3 --out {here}/h.json"),
    ],
)
def test_a_recorded_command_has_absolute_paths(typed, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a", "w"):
        Path(name).mkdir()
    for name in ("h.json", "w/t.pth"):
        Path(name).touch()
    for name in ("a", "w"):
        Path(name, "recipe.yaml").touch()
    Path("own.yaml").write_text("student: resnet8\nvariants: {wide: {epochs: 3}}\n")
    words = [word.format(here=tmp_path) for word in shlex.split(expected)]
    assert shlex.split(command_of(*shlex.split(typed))) == ["pursuhint", *words]


@pytest.mark.parametrize(
    "typed",
    [
        "analyze --teacher resnet8 --image-size 256x128 --image-normalize 0.4,0.5,0.6/0.2,0.2,0.3 --out a",
        "analyze --teacher resnet8 --image-normalize imagenet --image-channels 3 --no-exif --k 4 --out a",
        "train --student resnet8 --only-classes 0-4,7 --loss at=10:p=1 --loss kd --lr 1e-3 --out a",
        "compare --student resnet8 --method kd --method recipe:cifar100-at --seeds 0-2,5 --streams --out a",
        "demo --out a",
    ],
)
def test_a_recorded_command_is_read_as_what_was_typed(typed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def read(line: str) -> dict:
        name, *words = shlex.split(line)
        command = main.get_command(click.Context(main), name)
        with command.make_context(name, words) as context:
            return {**context.params, "out": context.params["out"].absolute()}

    assert read(command_of(*shlex.split(typed)).removeprefix("pursuhint ")) == read(typed)


def test_the_command_that_trains_with_an_analysis_takes_all_that_it_says_of_teacher_and_data():
    analyze, train = (
        {
            name
            for parameter in main.get_command(click.Context(main), command).params
            for name in (*parameter.opts, *parameter.secondary_opts)
        }
        for command in ("analyze", "train")
    )
    of_the_pass = {
        "--batch-size",
        "--workers",
        "--seed",
        "--device",
        "--precision",
        "--out",
        "--overwrite",
        "--quiet",
        "-q",
        "--json",
    }
    assert analyze & train == of_the_pass | {*_OF_TEACHER_AND_DATA, *_FLAGS_OF_TEACHER_AND_DATA}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An analysis of a checkpoint, and a run with its hints, made from a folder of their own."""
    folder = tmp_path_factory.mktemp("provenance")
    save_weights(create_model("resnet14", num_classes=10, in_channels=1), folder / "t.safetensors")
    before = Path.cwd()
    os.chdir(folder)
    try:
        call("analyze --teacher resnet14 --teacher-checkpoint t.safetensors --samples 100 --out a")
        call(
            "train --teacher resnet14 --teacher-checkpoint t.safetensors --student resnet8 --loss at "
            "--hints a/hints.json --epochs 1 --batch-size 256 --out r"
        )
    finally:
        os.chdir(before)
    return folder


def call(line: str) -> str:
    result = CliRunner().invoke(main, shlex.split(line), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def check(made: dict, folder: Path, begin: str) -> None:
    weights = folder / "t.safetensors"
    assert made["command"].startswith(begin)
    assert made["pursuhint"] == __version__
    assert made["torch"]
    assert made["network"] == "resnet14"
    assert made["checkpoint"] == str(weights)
    assert made["checkpoint_sha256"] == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert made["data"] == "digits"
    assert made["data_fingerprint"]
    times = [datetime.fromisoformat(made[key]) for key in ("started", "ended")]
    assert times == sorted(times)
    assert all(time.utcoffset().total_seconds() == 0 for time in times)


def test_an_analysis_and_its_plan_say_where_they_come_from(folder):
    made = json.loads((folder / "a" / "analysis.json").read_text())["provenance"]
    check(made, folder, f"pursuhint analyze --teacher resnet14 --teacher-checkpoint {folder}/t.safetensors")
    assert made["arguments"] == {"samples": 100}
    plan = HintPlan.load(folder / "a" / "hints.json")
    assert plan.provenance is not None
    assert plan.provenance.network_fingerprint == made["network_fingerprint"]
    check(json.loads((folder / "a" / "hints.json").read_text())["provenance"], folder, "pursuhint analyze")


def test_a_run_says_where_it_comes_from_and_keeps_where_its_plan_does(folder):
    made = json.loads((folder / "r" / "environment.json").read_text())["provenance"]
    check(made, folder, "pursuhint train --teacher resnet14")
    plan = json.loads((folder / "r" / "hints.json").read_text())["provenance"]
    assert plan["command"].startswith("pursuhint analyze")
    assert plan["network_fingerprint"] == made["network_fingerprint"]


def test_a_selection_names_its_own_command_and_the_network(folder, tmp_path):
    call(f"select {folder / 'a'} --k 3 --out {tmp_path / 'h.json'}")
    first, made = (HintPlan.load(path).provenance for path in (folder / "a/hints.json", tmp_path / "h.json"))
    assert made is not None
    assert first is not None
    assert made.command.startswith("pursuhint select")
    assert made.network_fingerprint == first.network_fingerprint


@pytest.mark.parametrize(
    ("hints", "seed", "warned"),
    [
        ("a/hints.json", 0, False),  # made from the teacher
        ("a/hints.json", 1, True),  # from other weights of the same network
        ("typed.json", 1, False),  # from no network
        ("conventional.json", 1, False),  # depends on no weights
    ],
)
def test_a_plan_that_was_chosen_from_another_network_warns(folder, tmp_path, hints, seed, warned):
    chosen = HintPlan.load(folder / "a" / "hints.json")
    replace(chosen, origin={"strategy": "explicit"}, provenance=None).save(folder / "typed.json")
    replace(chosen, origin={"strategy": "conventional"}).save(folder / "conventional.json")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        save_weights(create_model("resnet14", num_classes=10, in_channels=1), tmp_path / "other.safetensors")
    weights = tmp_path / "other.safetensors" if seed else folder / "t.safetensors"
    line = (
        f"train --teacher resnet14 --teacher-checkpoint {weights} --student resnet8 --loss at "
        f"--hints {folder / hints} --epochs 1 --batch-size 512 --no-report --out {tmp_path / 'r'}"
    )
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        call(line)
    texts = [str(each.message) for each in found if "chosen from" in str(each.message)]
    assert len(texts) == warned
    if warned:
        assert str(folder / "t.safetensors") in texts[0]
        assert texts[0].count("resnet14") == 2
