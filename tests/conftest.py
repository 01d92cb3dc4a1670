"""Fixtures for all tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

# Small networks gain nothing from a second thread, and results then do not depend on the number of cores.
torch.set_num_threads(1)

Finished = subprocess.CompletedProcess[str]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture
def process() -> Callable[..., Finished]:
    """Call ``python -m pursuhint`` as a process of its own."""

    def call(*arguments: str | Path, cwd: Path | None = None) -> Finished:
        words = [sys.executable, "-m", "pursuhint", *map(str, arguments)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        return subprocess.run(words, capture_output=True, text=True, cwd=cwd, env=environment, timeout=240)

    return call
