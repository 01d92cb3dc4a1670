"""``pursuhint table run``"""

from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from pursuhint.errors import PursuhintError

from . import completion, early_checks
from .command_line import record_command
from .compare import parse_seeds
from .early_checks import early
from .options import WholeNumber, apply, examples, refuse_typed
from .terminal import echo, say

if TYPE_CHECKING:
    from pursuhint.study import GridProgress


@click.command(
    "table run",
    epilog=examples(
        "pursuhint table run icd-1 --seeds 0-2 --out papers",
        "pursuhint table run icd-1 --dry-run --seconds-per-step 0.05 --out papers",
        "pursuhint table run rrd-supplement-1 --part 3/16 --out papers",
        "pursuhint table run pursuhint-figure-3 --epochs 20 --set data.train_samples=5000 --out pilot",
        "pursuhint table run icd-2 --submit slurm --jobs 16 --job-setting slurm_partition=gpu \\",
        "    --job-setting gpus_per_node=1 --job-setting timeout_min=600 --out papers",
        "pursuhint table run re-reviewkd-4 --teacher-weights resnet56=resnet56.pth --out papers",
    ),
)
@click.argument("name", metavar="NAME|FILE", callback=early(early_checks.grid))
@click.option(
    "--seeds",
    metavar="LIST",
    help="Seeds, e.g. 0-4 or 0,2,5.  [default: as many as the paper averages over]",
)
@click.option(
    "--epochs",
    type=WholeNumber(min=1),
    help="Epochs of every run; milestones, warm-ups and ramps become shorter in proportion.  [default: the "
    "recipes']",
)
@click.option(
    "--data",
    callback=early(early_checks.data_set),
    shell_complete=completion.data_set,
    metavar="NAME",
    help="Another data set, named as --data of 'pursuhint train'.  [default: the paper's]",
)
@click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    help="A key of all recipes, e.g. precision=bf16 or data.train_samples=5000. Repeatable.",
)
@click.option(
    "--teacher-weights",
    metavar="NETWORK=FILE",
    multiple=True,
    help="Weights of a teacher that is not to be trained. Repeatable.",
)
@click.option(
    "--part",
    metavar="I/N",
    help="Train this share of the cells, e.g. 3/16, and the teachers that it needs.  [default: all]",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only say how many cells there are, how many hours and how much disk they take, and train nothing.",
)
@click.option(
    "--seconds-per-step",
    type=click.FloatRange(min=0, min_open=True),
    metavar="S",
    help="Speed for --dry-run, the same for all cells.  [default: measured]",
)
@click.option(
    "--submit",
    type=click.Choice(["slurm", "local"]),
    help="Let workers train: jobs of Slurm, or processes of this machine (pip install 'pursuhint[slurm]').",
)
@click.option("--jobs", type=WholeNumber(min=1), help="Number of workers to submit.  [default: 1]")
@click.option(
    "--job-setting",
    "job_settings",
    metavar="KEY=VALUE",
    multiple=True,
    help="A setting of submitit's executor, e.g. slurm_partition=gpu, gpus_per_node=1, timeout_min=600. "
    "Repeatable.",
)
@apply("data_root", "download", "device", "out", "overwrite", "quiet", "json")
def command(
    name: str,
    seeds: str | None,
    epochs: int | None,
    data: str | None,
    assignments: tuple[str, ...],
    teacher_weights: tuple[str, ...],
    part: str | None,
    dry_run: bool,
    seconds_per_step: float | None,
    submit: str | None,
    jobs: int | None,
    job_settings: tuple[str, ...],
    data_root: Path | None,
    download: bool,
    device: str | None,
    out: Path,
    overwrite: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Train or resume the cells of a table or figure: a run folder for every network, method and seed.

    NAME is one of 'pursuhint list tables', FILE a grid of your own. Teachers are trained first, once for all
    grids of a folder. Call it on as many machines as share OUT: a cell that another worker holds is skipped,
    one whose worker died is resumed, and nothing is trained twice. 'pursuhint table OUT' puts the results
    beside the published ones.
    """
    record_command()
    if seconds_per_step is not None and not dry_run:
        raise PursuhintError("--seconds-per-step would be ignored: it goes with --dry-run")
    if submit is None:
        refuse_typed("jobs", "job_settings", because="they go with --submit")
    elif dry_run:
        refuse_typed("submit", because="--dry-run trains nothing")
    if dry_run:
        refuse_typed("overwrite", because="--dry-run writes nothing")
    share = (1, 1) if part is None else parse_part(part)
    chosen = None if seeds is None else parse_seeds(seeds)
    files = dict(_weights(text) for text in teacher_weights)

    from pursuhint.published import find_grid
    from pursuhint.study import GridOptions, JobOptions, estimate_grid, run_grid, submit_grid
    from pursuhint.study.grids.submit import job_setting

    from .progress import TrainingProgress

    grid = find_grid(name)
    options = GridOptions(
        seeds=chosen,
        epochs=epochs,
        data=data,
        data_root=None if data_root is None else str(data_root),
        download=download,
        assignments=assignments,
        teachers=files,
        overwrite=overwrite,
    )
    if changed := options.lines():
        say(f"not as in the paper: {'; '.join(changed)}", quiet)
    if dry_run:
        cost = estimate_grid(grid, out, options, part=share, seconds_per_step=seconds_per_step, device=device)
        if as_json:
            click.echo(json.dumps(asdict(cost)))
        for line in [] if as_json else cost.lines():
            echo(line)
        return
    if submit is not None:
        how = JobOptions(submit, jobs or 1, dict(map(job_setting, job_settings)))
        submitted = submit_grid(grid, out, options, jobs=how, part=share, device=device)
        numbers = [job.job_id for job in submitted]
        if as_json:
            click.echo(json.dumps({"jobs": numbers, "folder": str(out)}))
        else:
            echo(f"submitted to {submit}: {', '.join(numbers)}; their output is in {out / 'jobs'}")
        return
    progress = run_grid(
        grid,
        out,
        options,
        part=share,
        device=device,
        watch=lambda cell: TrainingProgress(f"{cell.name}: ", quiet=quiet),
    )
    _print(progress, out, as_json)
    if progress.failed:
        raise PursuhintError(progress.reasons())


def parse_part(text: str) -> tuple[int, int]:
    """``"3/16"`` as ``(3, 16)``.

    Raises:
        PursuhintError: it has another form, or there is no such share.
    """
    found = re.fullmatch(r"\s*([0-9]{1,6})\s*/\s*([0-9]{1,6})\s*", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise PursuhintError(f"--part {text} is no share; write for example 3/16, from 1/16 to 16/16")
    return int(found[1]), int(found[2])


def _weights(text: str) -> tuple[str, str]:
    network, equals, file = text.partition("=")
    if not (equals and network and file):
        raise PursuhintError(f"--teacher-weights {text} has no file; write NETWORK=FILE")
    early_checks.checkpoint(Path(file))
    return network, file


def _print(progress: GridProgress, out: Path, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(progress)))
        return
    echo(f"{progress.sentence()} ({out})")
    for name, holder in progress.held.items():
        echo(f"  {name}: {holder}")
