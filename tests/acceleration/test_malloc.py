"""Memory that is freed stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
from pursuhint.cli.main import run

from pursuhint.acceleration.malloc import keep_freed_memory
from pursuhint.study import compare
from pursuhint.study.profile import profile_steps
from pursuhint.training import Recipe, train
from tests.helpers.study_runs import few_digits, untrained

_COUNT = """
import resource
import torch
from pursuhint.acceleration.malloc import keep_freed_memory
def use():
    for size in (3, 40):  # below and above the size from which glibc always asks the system, in MiB
        torch.ones(size << 18).sum()
def faults():
    for _ in range(3):
        use()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        use()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(faults())
assert keep_freed_memory()
print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
def test_pages_are_fetched_once() -> None:
    command = [sys.executable, "-c", _COUNT]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    left, kept = map(int, done.stdout.split())
    assert kept < left / 2


def test_nothing_happens_where_the_library_has_no_such_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def __init__(self, name: str | None) -> None:
            pass

    monkeypatch.setattr("ctypes.CDLL", Library)
    assert keep_freed_memory.__wrapped__() is False


@pytest.fixture
def settings_made(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """An entry for every time that the allocator would have been set up, which this process must not be."""
    made: list[bool] = []
    monkeypatch.setattr("pursuhint.acceleration.malloc.keep_freed_memory", lambda: made.append(True))
    return made


def test_functions_of_the_library_leave_the_allocator_alone(tmp_path, settings_made) -> None:
    recipe = Recipe.from_dict({"student": "resnet8", "epochs": 1, "batch_size": 128})
    taught = recipe.override(["teacher=resnet8", "losses.at=1", "hints.strategy=random", "hints.k=2"])
    teacher, data = untrained("resnet8"), few_digits()
    train(recipe, tmp_path / "run", data=data, device="cpu")
    compare(
        taught, tmp_path / "study", data=data, arms=("alone", "centers"), seeds=(0,), device="cpu",
        teacher=teacher,
    )  # fmt: skip
    profile_steps(taught, data=data, steps=1, device="cpu", teacher=teacher)
    assert not settings_made


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["train", "--epochs", "1", "--no-report"], True),
        (["train", "--epochs", "1", "--no-report", "--set", "acceleration.keep_memory=false"], False),
        (["profile", "--repeats", "1", "--at-batch", "1", "--steps", "1"], True),
    ],
    ids=["train", "train-without", "profile"],
)
def test_commands_set_it_up(tmp_path, settings_made, arguments, expected) -> None:
    command, *more = arguments
    where = [] if command == "profile" else ["--out", str(tmp_path / "run")]
    words = [
        command, "--student", "resnet8", "--set", "batch_size=64", "--set", "data.train_samples=64",
        "--device", "cpu", *where, *more,
    ]  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        run(words)
    assert not ended.value.code
    assert bool(settings_made) is expected
