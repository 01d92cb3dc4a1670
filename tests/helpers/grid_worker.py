"""A worker on a grid, as a process that may be killed at any time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import torch

from pursuhint.published import Grid
from pursuhint.study import GridCell, GridOptions, run_grid
from pursuhint.study.grids import run
from pursuhint.training import EpochFinished, Event


def work(grid: Grid, out: Path, options: GridOptions, log: Path) -> None:
    """Train cells and append a line to a file when one begins, ends an epoch, and ends."""
    torch.set_num_threads(1)
    run.PATIENCE = run.Patience(beat=0.2, patience=60.0, poll=0.1)

    def note(*words: object) -> None:
        with log.open("a", encoding="utf-8") as file:
            file.write(" ".join(map(str, (os.getpid(), *words))) + "\n")

    @contextlib.contextmanager
    def watch(cell: GridCell) -> Iterator[Callable[[Event], None]]:
        note("begins", cell.name)

        def on_event(event: Event) -> None:
            if isinstance(event, EpochFinished):
                note("epoch", cell.name, event.metrics["epoch"])

        yield on_event
        note("ends", cell.name)

    run_grid(grid, out, options, device="cpu", watch=watch)
