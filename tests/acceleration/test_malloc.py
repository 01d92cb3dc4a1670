"""Memory that is freed stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from pursuhint.acceleration.malloc import keep_freed_memory

_COUNT = """
import resource, sys
import torch
from pursuhint.acceleration.malloc import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
def use():
    for size in (3, 40):  # below and above the size from which glibc always asks the system, in MiB
        torch.ones(size << 18).sum()
for _ in range(3):
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(what: str) -> int:
    run = subprocess.run(
        [sys.executable, "-c", _COUNT, what], capture_output=True, text=True, check=True, timeout=120
    )
    return int(run.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no such setting")
def test_pages_are_fetched_once() -> None:
    assert _faults("keep") < _faults("leave") / 2


def test_nothing_happens_where_the_library_has_no_such_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def __init__(self, name: str | None) -> None:
            pass

    monkeypatch.setattr("ctypes.CDLL", Library)
    assert keep_freed_memory.__wrapped__() is False


_WATCHED = """
import ctypes, sys
from pathlib import Path
import torch
from pursuhint.cli.main import run
from pursuhint.models import create_model
from pursuhint.study import compare
from pursuhint.study.profile import profile_steps
from pursuhint.training import Recipe, train

class Mallopt:
    calls = 0
    def __call__(self, parameter, value):
        Mallopt.calls += 1
        return 1

class Library:
    mallopt = Mallopt()

real = ctypes.CDLL
ctypes.CDLL = lambda name, *more, **named: Library() if name is None else real(name, *more, **named)

torch.set_num_threads(1)
what, out = sys.argv[1], Path(sys.argv[2])
recipe = Recipe.from_dict({"student": "resnet8", "epochs": 1, "batch_size": 512, "data": "digits"})
taught = recipe.override(["teacher=resnet8", "losses.at=1", "hints.strategy=random", "hints.k=2"])
teacher = create_model("resnet8", num_classes=10, in_channels=1)
if what == "python":
    train(recipe, out / "run", device="cpu")
    compare(taught, out / "study", arms=("random", "centers"), seeds=(0,), device="cpu", teacher=teacher)
    profile_steps(taught, steps=1, device="cpu", teacher=teacher)
else:
    command = [what, "--student", "resnet8", "--set", "batch_size=512", "--device", "cpu"]
    where = [] if what == "profile" else ["--epochs", "1", "--out", str(out / what)]
    try:
        run([*command, *where, *sys.argv[3:]])
    except SystemExit as stop:
        assert not stop.code, stop.code
print("calls", Mallopt.calls)
"""


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["python"], False),
        (["train", "--no-report"], True),
        (["train", "--no-report", "--set", "acceleration.keep_memory=false"], False),
        (["profile", "--repeats", "1", "--at-batch", "1", "--steps", "1"], True),
    ],
    ids=["python", "train", "train-without", "profile"],
)
def test_only_the_command_line_sets_up_the_allocator(tmp_path, arguments, expected) -> None:
    what, *more = arguments
    run = subprocess.run(
        [sys.executable, "-c", _WATCHED, what, str(tmp_path), *more],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    assert (int(run.stdout.split("calls ")[1]) > 0) is expected
