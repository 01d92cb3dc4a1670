"""Workers on a grid as jobs of a scheduler, through submitit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pursuhint._util.atomic_files import make_folder
from pursuhint._util.yaml_text import parse_yaml
from pursuhint.errors import PursuhintError
from pursuhint.study.grids.cells import GridOptions, grid_cells
from pursuhint.study.grids.folder import claim
from pursuhint.study.grids.results import describe
from pursuhint.study.grids.run import run_grid, share

if TYPE_CHECKING:
    from pursuhint.published.grids import Grid

__all__ = ["JobOptions", "submit_grid"]

FOLDER = "jobs"

_MINUTES = 24 * 60  # a job's time; submitit's own default is five minutes


@dataclass(frozen=True)
class JobOptions:
    """How workers are submitted.

    Attributes:
        scheduler: ``slurm``, or ``local`` for processes of this machine.
        jobs: number of workers.
        settings: of submitit's executor, such as ``slurm_partition`` or ``gpus_per_node``; ``timeout_min`` is
            a day unless it is given.
    """

    scheduler: str = "slurm"
    jobs: int = 1
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class GridJob:
    """A worker on a grid as a job. Preempted, or at the end of its time, it is queued again."""

    grid: Grid
    out: Path
    options: GridOptions
    part: tuple[int, int]
    device: str | None

    def __call__(self) -> str:
        """Train cells; returns what has become of them."""
        progress = run_grid(self.grid, self.out, self.options, part=self.part, device=self.device)
        if progress.failed:
            raise PursuhintError(progress.reasons())
        return progress.sentence()

    def checkpoint(self) -> Any:
        """The same job again: its cell is resumed from the last saved state."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def submit_grid(
    grid: Grid,
    out: Path | str,
    options: GridOptions,
    *,
    jobs: JobOptions,
    part: tuple[int, int] = (1, 1),
    device: str | None = None,
) -> tuple[Any, ...]:
    """Submit workers that train a grid together, see `pursuhint.study.run_grid`, and do not wait for them.

    Args:
        grid: see `pursuhint.published.find_grid`.
        out: the folder, which all of them must see.
        options: what is changed in every cell. Paths become absolute.
        jobs: scheduler, number of workers, and settings of the scheduler.
        part: number of a share, from 1, and how many shares there are.
        device: where they train; None for the best that each of them has.

    Returns:
        The jobs, as submitit has them; their output is in the folder ``jobs`` of ``out``.

    Raises:
        PursuhintError: submitit is not installed (extra ``slurm``), there is no such scheduler here or no
            such setting, or as `pursuhint.study.run_grid`.
    """
    try:
        import submitit
    except ImportError:
        raise PursuhintError("--submit needs submitit: pip install 'pursuhint[slurm]'") from None
    folder = Path(out).absolute()
    cells = grid_cells(grid, folder, options)
    share(cells, *part)  # what is wrong with them is said here
    if options.data_root is not None:
        options = replace(options, data_root=str(Path(options.data_root).absolute()))
    files = {name: str(Path(file).absolute()) for name, file in options.teachers.items()}
    options = replace(options, teachers=files)
    claim(folder, options, {grid.name: describe(grid, cells, options)})
    make_folder(folder / FOLDER)
    try:
        executor = submitit.AutoExecutor(folder=folder / FOLDER, cluster=jobs.scheduler)
        executor.update_parameters(
            **{"timeout_min": _MINUTES, "name": f"pursuhint {grid.name}", **jobs.settings}
        )
        job = GridJob(grid, folder, options, part, device)
        return tuple(executor.submit(job) for _ in range(jobs.jobs))
    except (RuntimeError, NameError, TypeError, ValueError, AssertionError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise PursuhintError(f"submitit cannot submit to {jobs.scheduler}: {reason}") from error


def job_setting(text: str) -> tuple[str, Any]:
    """``"slurm_partition=gpu"`` as a name and a value; values are read as in YAML.

    Raises:
        PursuhintError: it has no value.
    """
    key, equals, value = text.partition("=")
    if not (equals and key.strip()):
        raise PursuhintError(f"cannot read the setting {text!r}; write KEY=VALUE, e.g. slurm_partition=gpu")
    return key.strip(), parse_yaml(value, f"the setting {text!r}")
