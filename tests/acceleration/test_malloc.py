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
