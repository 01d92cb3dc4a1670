"""The commands under "How to repeat it", pasted into a shell in another folder, give the same again."""

from __future__ import annotations

import html
import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cli.main import main
from pursuhint.analysis import Analysis
from pursuhint.models import create_model
from pursuhint.models.checkpoint import save_weights
from pursuhint.training import RunRecord
from tests.helpers.processes import finished

pytestmark = pytest.mark.slow

TAUGHT = "--teacher resnet14 --teacher-checkpoint t.safetensors"
SHORT = "--student resnet8 --epochs 1 --batch-size 64 --train-samples 128 --device cpu"
COMMANDS = {
    "a": f"analyze {TAUGHT} --samples 150 --k 3 --metric r2cca --metric cka --algorithm segments "
    "--position last --activation pre --seed 3 --batch-size 50 --points 'layer*' --no-stability --overwrite",
    "a run": f"train {TAUGHT} {SHORT} --hints a/hints.json --loss at --loss kd=0.5 --seed 2 --no-report "
    "--set data.augment=none",
    "c": f"compare {TAUGHT} {SHORT} --loss at --arm alone --arm kmeans --arm hints:a/hints.json --k 2 "
    "--activation pre --samples 100 --seeds 1",
    "m": f"compare {TAUGHT} {SHORT} --method kd --method at=100 --method recipe:own.yaml --hints 2,4 "
    "--set hints.pairing=even --seeds 3",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An analysis, a run and both kinds of study, typed with relative paths in a folder of their own."""
    folder = tmp_path_factory.mktemp("with a space")
    save_weights(create_model("resnet14", num_classes=10, in_channels=1), folder / "t.safetensors")
    (folder / "own.yaml").write_text("student: resnet8\nteacher: resnet14\nlosses: {sp: 3000, kd: 0.9}\n")
    before = Path.cwd()
    os.chdir(folder)
    try:
        for out, line in COMMANDS.items():
            call([*shlex.split(line), "--out", out])
        call(["report", "a run"])
    finally:
        os.chdir(before)
    return folder


def call(words: list[str]) -> None:
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output


def commands_of(page: Path) -> list[str]:
    """The lines of the page's last section that stand by themselves."""
    section = page.read_text(encoding="utf-8").split("How to repeat it")[-1]
    return [
        html.unescape(line)
        for line in re.findall(r"^<pre[^>]*>(.*?)</pre>", section, re.DOTALL | re.MULTILINE)
    ]


def paste(line: str, place: Path) -> None:
    """Run a line in a shell, in another folder."""
    program, rest = line.split(" ", 1)
    assert program == "pursuhint"
    shown = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s\\0' {rest}"], cwd=place, capture_output=True, text=True, check=True
    )
    done = finished("-m", "pursuhint", *shown.stdout.split("\0")[:-1], cwd=place)
    assert done.returncode == 0, done.stderr


def weights(run: Path) -> bytes:
    return (run / "student.safetensors").read_bytes()


def test_an_analysis_is_repeated_and_its_hints_train_a_student(folder, tmp_path):
    again, train = commands_of(folder / "a" / "report.html")
    paste(again, tmp_path)
    (found,) = tmp_path.glob("*/analysis.json")
    one, other = Analysis.load(folder / "a"), Analysis.load(found.parent)
    assert other.plan == one.plan
    assert other.provenance.arguments == one.provenance.arguments
    assert other.provenance.network_fingerprint == one.provenance.network_fingerprint
    for metric in one.metrics:
        np.testing.assert_array_equal(other.similarities[metric].values, one.similarities[metric].values)
    assert f"--hints '{folder / 'a' / 'hints.json'}'" in train
    paste(f"{train} {SHORT}", tmp_path)
    run = RunRecord.load(tmp_path / "runs" / "student")
    assert run.plan is not None
    assert run.plan.teacher_points == one.plan.teacher_points


def test_a_run_is_repeated(folder, tmp_path):
    (again,) = commands_of(folder / "a run" / "report.html")
    paste(again, tmp_path)
    assert weights(tmp_path / "runs" / "again") == weights(folder / "a run")


@pytest.mark.parametrize(
    ("name", "file", "rows"), [("c", "compare.json", "arms"), ("m", "methods.json", "methods")]
)
def test_a_study_is_repeated(folder, tmp_path, name, file, rows):
    (again,) = commands_of(folder / name / "report.html")
    paste(again, tmp_path)
    one, other = (
        json.loads((place / file).read_text()) for place in (folder / name, tmp_path / "runs" / "again")
    )
    assert len(one[rows]) == len(other[rows]) >= 3
    for before, after in zip(one[rows], other[rows], strict=True):
        assert after["last"] == before["last"]
        for run, same in zip(before["runs"], after["runs"], strict=True):
            assert same["modules"] == run["modules"]
            assert weights(tmp_path / "runs" / "again" / same["folder"]) == weights(
                folder / name / run["folder"]
            )
