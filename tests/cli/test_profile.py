"""``pursuhint profile``: the table of a teacher and its student."""

from __future__ import annotations

import json


def test_the_table_needs_neither_data_nor_weights(pursuhint):
    done = pursuhint(
        "profile", "--teacher", "resnet14", "--student", "resnet8", "--input", "3x32x32", "--classes", "100",
        "--at-batch", "2", "--repeats", "2", "--device", "cpu",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    header, teacher, student, where = done.stdout.splitlines()
    assert header.split() == ["network", "parameters", "compression", "FLOPs", "ms,", "batch", "2"]
    assert teacher.split()[:3] == ["resnet14", "181,108", "-"]
    assert student.split()[:4] == ["resnet8", "83,892", "53.7", "%"]
    assert where.startswith("images 3x32x32, cpu")


def test_steps_and_json(pursuhint):
    done = pursuhint(
        "profile", "--teacher", "resnet8", "--student", "resnet8", "--loss", "at", "--repeats", "1",
        "--at-batch", "1", "--steps", "1", "--device", "cpu", "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["compression"] == 0
    assert found["shape"] == [1, 8, 8]
    assert set(found["step"]["seconds"]) == {"data", "teacher", "student", "losses", "backward", "optimiser"}


def test_mistakes(pursuhint):
    assert (
        "is not a shape such as 3x32x32"
        in pursuhint("profile", "--student", "resnet8", "--input", "3x3").stderr
    )
    assert "which network" in pursuhint("profile").stderr
