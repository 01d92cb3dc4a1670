"""``pursuhint search`` on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("optuna")


def test_json_quiet_report_and_the_recipe_of_the_best_trial(
    pursuhint, teacher_file: Path, tmp_path: Path
) -> None:
    words = [
        *("search", "--student", "resnet8", "--teacher", "resnet8", "--teacher-checkpoint", teacher_file),
        *("--train-samples", "80", "--epochs", "1", "--loss", "kd", "--vary", "losses.kd.temperature=1..8"),
        *("--trials", "2", "--device", "cpu", "--out", tmp_path / "out"),
        *("--record-teacher", tmp_path / "recording"),
    ]
    done = pursuhint(*words, "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert [trial["state"] for trial in found["trials"]] == ["complete", "complete"]
    assert "trial 1 (2 of 2): losses.kd.temperature=" in done.stderr
    assert (tmp_path / "recording" / "epoch-1" / "logits.safetensors").exists()
    page = tmp_path / "out" / "report.html"
    text = page.read_text()
    assert f"losses.kd.temperature = {found['best_values']['losses.kd.temperature']}" in text
    assert {path.name for path in (tmp_path / "out" / "figures").iterdir()} == {"history.png", "slices.png"}
    page.unlink()
    again = pursuhint(*words, "--quiet", "--no-report")
    assert not page.exists()
    assert again.stderr == ""
    value = found["best_values"]["losses.kd.temperature"]
    assert f"losses.kd.temperature = {value}" in again.stdout
    assert f"temperature: {value}" in (tmp_path / "out" / "best.yaml").read_text()
