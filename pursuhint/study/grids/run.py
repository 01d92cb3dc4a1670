"""Train the cells of a grid, together with other workers on the same folder."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from pursuhint._util import lease as leases
from pursuhint._util.devices import choose_device
from pursuhint._util.distributed import world_size
from pursuhint._util.folder_lock import FolderInUse
from pursuhint._util.lease import Lease, take_lease
from pursuhint.errors import PursuhintError
from pursuhint.published.grids import Grid
from pursuhint.study.grids.cells import AS_PUBLISHED, GridCell, GridOptions, grid_cells, slug
from pursuhint.study.grids.folder import LEASES, claim, is_finished
from pursuhint.study.grids.results import describe
from pursuhint.training import train
from pursuhint.training.events import Event
from pursuhint.training.signals import share_stop

__all__ = ["GridProgress", "run_grid"]

Watch = Callable[[GridCell], AbstractContextManager[Callable[[Event], None]]]


@dataclass
class GridProgress:
    """What has become of the cells of a grid, or of a share of it.

    Attributes:
        cells: names of all of them.
        finished: those that are finished, whoever trained them.
        trained: those that this call finished.
        held: those that another worker trains at present, with its host and process.
        failed: those that failed in this call, with the reason.
        blocked: those whose teacher is not there, because it failed or another worker trains it.
    """

    cells: tuple[str, ...]
    finished: list[str] = field(default_factory=list)
    trained: list[str] = field(default_factory=list)
    held: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    blocked: list[str] = field(default_factory=list)

    @property
    def is_complete(self) -> bool:
        """Whether all cells are finished."""
        return len(self.finished) == len(self.cells)

    def sentence(self) -> str:
        """The numbers in one line."""
        parts = [
            f"{len(self.finished)} of {len(self.cells)} cells finished, {len(self.trained)} of them here"
        ]
        for what, number in (
            ("held by other workers", len(self.held)),
            ("failed", len(self.failed)),
            ("wait for a teacher", len(self.blocked)),
        ):
            parts += [f"{number} {what}"] * bool(number)
        return "; ".join(parts)

    def reasons(self) -> str:
        """How many cells failed and why, every reason once with its first cell."""
        first: dict[str, str] = {}
        for name, reason in self.failed.items():
            first.setdefault(reason, name)
        number = f"{len(self.failed)} cell{'s' * (len(self.failed) > 1)} failed"
        return f"{number}: " + "; ".join(f"{name}: {reason}" for reason, name in first.items())


@dataclass(frozen=True)
class Patience:
    """How workers wait for one another, in seconds.

    Attributes:
        beat: between two heartbeats of a lease.
        patience: without a heartbeat until a worker of another host counts as dead.
        poll: between two looks at a teacher that another worker trains.
    """

    beat: float = leases.BEAT
    patience: float = leases.PATIENCE
    poll: float = 5.0


PATIENCE = Patience()


@share_stop()
def run_grid(
    grid: Grid,
    out: Path | str,
    options: GridOptions = AS_PUBLISHED,
    *,
    part: tuple[int, int] = (1, 1),
    device: torch.device | str | None = None,
    watch: Watch = lambda cell: contextlib.nullcontext(lambda event: None),
) -> GridProgress:
    """Train the cells of a grid that are not finished. Any number of workers may do so in one folder.

    A cell is a run folder in ``out``, written as `pursuhint.training.train` does. A cell that another worker
    holds is skipped; one whose worker died is resumed from its last state. A student waits as long as another
    worker trains its teacher and nothing else is left to do. Several grids may share a folder: cells that
    they have in common are trained once.

    Args:
        grid: see `pursuhint.published.find_grid`.
        out: the folder.
        options: what is changed in every cell; the same for all workers and grids of a folder.
        part: number of a share, from 1, and how many shares there are.
        device: where to train; None for the best there is.
        watch: makes, for every cell, the context whose value receives the events of its run.

    Raises:
        PursuhintError: a recipe is wrong, the folder holds something else, or cells with other settings.
        RunStopped: a signal asked the worker to stop; the cell has been saved.
    """
    if world_size() > 1:
        raise PursuhintError(
            "the processes of torchrun would train one cell together; start a worker a device instead"
        )
    folder, where = Path(out), choose_device(device)
    everything = grid_cells(grid, folder, options)
    cells = share(everything, *part)
    claim(folder, options, {grid.name: describe(grid, everything, options)})
    progress = GridProgress(tuple(cell.name for cell in cells))
    worker = _Worker(folder, where, watch, PATIENCE, progress, options.overwrite)
    return worker.work(cells)


def share(cells: Sequence[GridCell], number: int, parts: int) -> tuple[GridCell, ...]:
    """One of several shares of the cells, with the teachers that they need.

    Raises:
        PursuhintError: there is no such share.
    """
    if not 1 <= number <= parts:
        raise PursuhintError(f"there is no share {number} of {parts}; shares are 1 to {parts}")
    mine = cells[len(cells) * (number - 1) // parts : len(cells) * number // parts]
    needed = {cell.teacher for cell in mine} | {cell.name for cell in mine}
    return tuple(cell for cell in cells if cell.name in needed)


class _LeaseLost(PursuhintError):
    """Another worker has taken a cell over."""


@dataclass
class _Worker:
    """Goes through cells until none is left that it could train."""

    folder: Path
    device: torch.device
    watch: Watch
    patience: Patience
    progress: GridProgress
    overwrite: bool

    def work(self, cells: Sequence[GridCell]) -> GridProgress:
        """Train what can be trained."""
        left = list(cells)
        while True:
            left = [cell for cell in left if not self._note_finished(cell)]
            trained, teachers = self._round(left)
            if not left or not (trained or teachers):
                return self.progress
            if not trained:
                time.sleep(self.patience.poll)

    def _round(self, cells: Sequence[GridCell]) -> tuple[bool, bool]:
        """Whether a cell was trained, and whether others may follow once a teacher is there."""
        progress = self.progress
        progress.held, progress.blocked = {}, []
        trained = False
        for cell in cells:
            if cell.name in progress.failed or is_finished(self.folder / cell.name):
                continue
            if cell.teacher is not None and not is_finished(self.folder / cell.teacher):
                progress.blocked.append(cell.name)
                continue
            lease = self._take(cell)
            if isinstance(lease, str):
                progress.held[cell.name] = lease
                continue
            try:
                trained = self._train(cell, lease) or trained
            finally:
                lease.release()
        teachers = {cell.teacher for cell in cells if cell.name in progress.blocked}
        return trained, any(name in progress.held for name in teachers)

    def _take(self, cell: GridCell) -> Lease | str:
        return take_lease(self._lease_of(cell), beat=self.patience.beat, patience=self.patience.patience)

    def _lease_of(self, cell: GridCell) -> Path:
        return self.folder / LEASES / f"{slug(cell.name)}.json"

    def _note_finished(self, cell: GridCell) -> bool:
        finished = is_finished(self.folder / cell.name)
        if finished:
            self.progress.finished.append(cell.name)
            if self._lease_of(cell).exists():
                lease = self._take(cell)
                if isinstance(lease, Lease):  # of a worker that was killed once the cell had its result
                    lease.release()
        return finished

    def _train(self, cell: GridCell, lease: Lease) -> bool:
        """Whether the cell was trained to its end."""
        if is_finished(self.folder / cell.name):  # since the last look
            return False

        def check(event: Event) -> None:
            if lease.is_lost:
                raise _LeaseLost(
                    "another worker has taken it over, because this one stood still for too long"
                )
            show(event)

        try:
            with self.watch(cell) as show:
                train(
                    cell.recipe,
                    self.folder / cell.name,
                    device=self.device,
                    on_event=check,
                    overwrite=self.overwrite,
                )
        except (_LeaseLost, FolderInUse) as error:
            self.progress.held[cell.name] = str(error)
            return False
        except PursuhintError as error:
            self.progress.failed[cell.name] = str(error)
            return False
        self.progress.trained.append(cell.name)
        return True
