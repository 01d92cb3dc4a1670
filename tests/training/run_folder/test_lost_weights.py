"""A finished run whose weights were deleted gets them back from its state, or says that it cannot."""

from __future__ import annotations

import shutil
import warnings

import pytest

from cli.main import run as command_line
from pursuhint.errors import PursuhintError, PursuhintWarning
from tests.helpers.interrupted_runs import assert_same, train


@pytest.fixture
def finished(uninterrupted, tmp_path):
    return shutil.copytree(uninterrupted, tmp_path / "run")


@pytest.mark.parametrize(
    "lost", [["student.safetensors"], ["best.safetensors"], ["student.safetensors", "best.safetensors"]]
)
def test_lost_weights_are_restored_from_the_state(distilled, uninterrupted, finished, lost):
    for name in lost:
        (finished / name).unlink()
    with pytest.warns(PursuhintWarning, match=f"{' and '.join(lost)} of the finished run"):
        train(distilled, finished)
    assert_same(finished, uninterrupted)


def test_without_a_state_it_says_so_and_trains_nothing(distilled, finished):
    (finished / "student.safetensors").unlink()
    shutil.rmtree(finished / "state")
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    with pytest.raises(PursuhintError, match=r"student\.safetensors is gone and there is no state"):
        train(distilled, finished)
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_a_whole_run_stays_as_it_is(distilled, finished):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    train(distilled, finished)
    assert {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()} == before


def test_the_command_ends_with_an_error(alone, tmp_path, capsys):
    alone.model_copy(update={"epochs": 1}).save(tmp_path / "recipe.yaml")
    words = [
        "train",
        "--recipe",
        str(tmp_path / "recipe.yaml"),
        "--out",
        str(tmp_path / "run"),
        "--no-report",
    ]
    words += ["--train-samples", "256", "--device", "cpu"]

    def ends() -> object:
        with pytest.raises(SystemExit) as ended:
            command_line(words)
        return ended.value.code

    assert not ends()
    (tmp_path / "run" / "student.safetensors").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("default")  # the command shows it as a note
        assert not ends()
    assert "note: student.safetensors of the finished run" in capsys.readouterr().err
    assert (tmp_path / "run" / "student.safetensors").is_file()
    (tmp_path / "run" / "student.safetensors").unlink()
    shutil.rmtree(tmp_path / "run" / "state")
    assert ends() == 1
    assert "written" not in capsys.readouterr().err.splitlines()[-1]
