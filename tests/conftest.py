"""Fixtures for all tests."""

from __future__ import annotations

import gc
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.helpers import processes

# Until all tests are collected, what is made stays: see pytest_collection_finish.
gc.disable()

# Small networks gain nothing from a second thread, and results then do not depend on the number of cores.
torch.set_num_threads(1)

# GNU readline, which pytest loads, says in the environment of the test processes that a terminal is 80 wide.
os.environ.pop("COLUMNS", None)

# Waiting for the disk is a third of the time of a small run, and no test cuts the power. Commands that tests
# start as processes do wait.
os.fsync = lambda descriptor: None

PROCESSES = 2
# Folders whose files take seconds each.
SHORT = ("tests/_util/", "tests/clustering/", "tests/data/", "tests/distillation/", "tests/hints/")

Finished = subprocess.CompletedProcess[str]


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Run the whole suite (``pytest`` alone) in two processes, each with its share of the files.

    ``-n`` asks for another number of processes, 0 for this one, in which it also runs where pytest-xdist is
    missing. A part of the suite runs in this one.
    """
    options = config.option
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS and not hasattr(config, "workerinput")
    narrowed = options.keyword or options.markexpr or options.collectonly or options.usepdb
    if whole and not narrowed and getattr(options, "numprocesses", 0) != 0:
        options.numprocesses = options.numprocesses or PROCESSES
        options.dist = "loadfile" if options.dist == "no" else options.dist
        options.loadscopereorder = False  # the order is that of `pytest_collection_modifyitems`
        os.environ["OMP_NUM_THREADS"] = "1"  # for the processes that are about to start


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run short files last, so that no process waits long for the other; skip what needs a missing GPU."""
    items.sort(key=lambda item: item.nodeid.startswith(SHORT))
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


def pytest_collection_finish() -> None:
    """Look through tests and imported modules for garbage once, and never again."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture
def process() -> Callable[..., Finished]:
    """Call ``python -m pursuhint`` as a process of its own."""

    def call(*arguments: str | Path, cwd: Path | None = None) -> Finished:
        return processes.finished("-m", "pursuhint", *arguments, cwd=cwd)

    return call
