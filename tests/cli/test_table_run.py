"""``pursuhint table run``: a grid of one's own on the digits."""

from __future__ import annotations

import json

import pytest

TOY = """
title: A toy
alone: digits-vanilla
pairs: [resnet14-resnet8]
rows:
  KD: {recipe: digits-vanilla, set: {losses: {kd: 1}}}
"""
QUICK = ("--epochs", "1", "--set", "data.train_samples=100", "--set", "batch_size=50", "--device", "cpu")


@pytest.fixture
def toy(tmp_path):
    file = tmp_path / "toy.yaml"
    file.write_text(TOY)
    return file


def test_a_grid_is_trained_and_stands_beside_itself(pursuhint, toy, tmp_path):
    out = tmp_path / "out"
    done = pursuhint("table", "run", toy, *QUICK, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "3 of 3 cells finished, 3 of them here" in done.stdout
    assert "not as in the paper: 1 epochs" in done.stderr
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")}
    again = pursuhint("table", "run", toy, *QUICK, "--out", out, "--json", "--quiet")
    assert again.stderr == ""
    progress = json.loads(again.stdout)
    assert len(progress["finished"]) == 3
    assert progress["trained"] == []
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*.safetensors")} == before
    table = json.loads(pursuhint("table", out, "--json").stdout)
    assert [row[0] for row in table["rows"]].count("vanilla") == 2  # teacher and student
    assert "KD" in {row[0] for row in table["rows"]}


def test_other_settings_need_another_folder(pursuhint, toy, tmp_path):
    out = tmp_path / "out"
    assert pursuhint("table", "run", toy, *QUICK, "--part", "1/3", "--out", out).returncode == 0
    refused = pursuhint("table", "run", toy, *QUICK, "--epochs", "2", "--out", out)
    assert refused.returncode == 1
    assert "begun with other settings (epochs: 1)" in refused.stderr
    mixed = pursuhint("train", "--student", "resnet8", "--out", out)
    assert mixed.returncode == 1
    assert "holds a grid of runs" in mixed.stderr


def test_a_cell_that_fails_is_named_and_the_others_are_trained(pursuhint, toy, tmp_path):
    toy.write_text(TOY.replace("losses: {kd: 1}", "optimizer: {lr: 1.0e+38}, losses: {kd: 1}"))
    done = pursuhint("table", "run", toy, *QUICK, "--out", tmp_path / "out")
    assert done.returncode == 1
    assert "2 of 3 cells finished, 2 of them here; 1 failed" in done.stdout
    assert done.stderr.splitlines()[-1].startswith("pursuhint: 1 cells failed: KD-")
