"""pursuhint compare, of methods and of hint positions."""

from __future__ import annotations

import json

import pytest

QUICK = (
    "--student",
    "resnet8",
    "--data",
    "digits",
    "--epochs",
    "1",
    "--batch-size",
    "512",
    "--device",
    "cpu",
)


@pytest.fixture
def taught(teacher_file):
    return (*QUICK, "--teacher", "resnet8", "--teacher-checkpoint", teacher_file, "--seeds", "0")


def test_methods(pursuhint, taught, tmp_path):
    out = tmp_path / "m"
    call = ("compare", *taught, "--method", "kd", "--method", "at=10+kd", "--out", out)
    done = pursuhint(*call)
    assert done.returncode == 0, done.stderr
    assert "resnet8 taught by resnet8 on digits" in done.stdout
    assert "AT + KD (at=10+kd)" in done.stdout
    assert "[3 of 3]" in done.stderr
    assert (out / "report.html").exists()
    again = pursuhint(*call, "--json", "--at-once", "1")
    found = json.loads(again.stdout)
    assert [method["name"] for method in found["methods"]] == ["alone", "kd", "at=10+kd"]
    assert "(was there)" in again.stderr
    assert pursuhint("report", out).returncode == 0


def test_positions_train_together_behind_one_progress(pursuhint, taught, tmp_path):
    out = tmp_path / "c"
    arms = ("--arm", "alone", "--arm", "conventional")
    done = pursuhint("compare", *taught, "--loss", "at", *arms, "--out", out)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("test top-1") == 2
    assert "comparing the layers" not in done.stderr  # no arm needs an analysis


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--method", "kd", "--arm", "alone"), "--arm compares hint positions and --method losses"),
        (("--method", "kdd"), "no loss named 'kdd'"),
        (("--method", "kd", "--loss", "at"), "the recipe names losses (at)"),
    ],
)
def test_wrong_calls(pursuhint, taught, tmp_path, arguments, message):
    done = pursuhint("compare", *taught, *arguments, "--out", tmp_path / "x")
    assert done.returncode == 1
    assert message in done.stderr
    assert not (tmp_path / "x").exists()
