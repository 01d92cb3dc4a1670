"""``pursuhint transfer``: what is printed and written."""

from __future__ import annotations

import json

import pytest

from pursuhint.study import TransferResult
from tests.helpers.image_folders import write_folder


@pytest.fixture
def run(pursuhint, tmp_path):
    words = ("--student", "resnet8", "--epochs", "1", "--train-samples", "100", "--quiet", "--no-report")
    assert pursuhint("train", *words, "--out", tmp_path / "run").returncode == 0
    return tmp_path / "run"


def test_table_json_and_file(pursuhint, run, tmp_path):
    to = f"folder:{write_folder(tmp_path / 'photos')}"
    words = ("transfer", run, "--to", to, "--epochs", "2", "--device", "cpu")
    done = pursuhint(*words)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split() == ["run", to, "(sgd)", to, "(logistic)"]
    assert "images: 8x8" in done.stderr
    found = json.loads(pursuhint(*words, "--json").stdout)
    assert [one["classifier"] for one in found["runs"][0]["accuracies"]] == ["sgd", "logistic"]
    assert found["settings"]["epochs"] == 2
    saved = tmp_path / "saved"
    done = pursuhint(*words, "--save", saved)
    assert f"report: {saved / 'report.html'}" in done.stderr
    (first,) = TransferResult.load(saved).runs
    assert [one.top1 for one in first.accuracies] == [one["top1"] for one in found["runs"][0]["accuracies"]]
    assert TransferResult.load(saved).provenance.command == (
        f"pursuhint transfer {run} --to {to} --epochs 2 --save {saved} --device cpu"
    )
    assert pursuhint("report", saved).returncode == 0
    assert "holds a run" in pursuhint(*words, "--save", run).stderr
    out = tmp_path / "table.md"
    assert "--epochs would be ignored" in pursuhint(*words, "--classifier", "logistic").stderr
    words = (*words[:4], *words[6:])  # the epochs are those of sgd
    quiet = pursuhint(*words, "--quiet", "--classifier", "logistic", "--format", "markdown", "--out", out)
    assert (quiet.returncode, quiet.stdout, quiet.stderr) == (0, "", "")
    logistic = found["runs"][0]["accuracies"][1]
    assert f"| {logistic['top1']:.2f} [" in out.read_text()
