"""``pursuhint table``"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from pursuhint.errors import PursuhintError

from . import completion
from .options import apply, examples, refuse_typed
from .table_output import check_table_options, table_options, write_table
from .terminal import echo, say


@click.command(
    "table",
    epilog=examples(
        "pursuhint table",
        "pursuhint table --paper pursuhint --table 4",
        "pursuhint table --paper icd --table 1 --format latex --out icd.tex",
        "pursuhint table runs/kd runs/at comparison",
        "pursuhint table run icd-1 --out papers",
    ),
)
@click.argument(
    "runs", metavar="[RUN]...", nargs=-1, type=click.Path(path_type=Path, exists=True, file_okay=False)
)
@click.option(
    "--paper",
    metavar="NAME",
    shell_complete=completion.paper,
    help="The paper; see 'pursuhint table' for all of them.",
)
@click.option("--table", "number", metavar="NUMBER", help="Number of its table.")
@table_options
@apply("overwrite_file", "json")
def command(
    runs: tuple[Path, ...],
    paper: str | None,
    number: str | None,
    kind: str,
    out: Path | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Print a table of a paper, or the results of runs and comparisons beside published ones.

    Without a paper and runs, lists the papers and their tables. A RUN is a run folder of 'pursuhint train' or
    the folder of a comparison; its accuracy of the last epoch stands beside the published figures for the
    same data, teacher, student and method, averaged over the seeds. 'pursuhint table run NAME' trains what
    stands behind a table; its folder is a RUN, too.
    """
    from pursuhint.published import PAPERS, published_table

    if runs and (paper or number):
        raise PursuhintError("give either runs or --paper and --table, not both")
    if number and not paper:
        raise PursuhintError(f"--table {number} needs --paper NAME, one of {', '.join(PAPERS)}")
    if out is None:
        refuse_typed("overwrite", because="it goes with --out")
    check_table_options(kind, as_json, out, overwrite=overwrite)
    if runs:
        from pursuhint.study.published_figures import beside_published, remarks_on

        table = beside_published(runs)
        for folder in runs:
            for remark in remarks_on(folder):
                say(remark)
    elif paper and number:
        table = published_table(paper, number)
    else:
        if paper and paper not in PAPERS:
            published_table(paper, "1")  # names the papers that there are
        if kind != "text" or out is not None:
            raise PursuhintError("--format and --out need a table: give --paper and --table, or runs")
        _list_tables(paper, as_json)
        return
    write_table(table, asdict(table) if as_json else None, kind=kind, out=out)


def _list_tables(paper: str | None, as_json: bool) -> None:
    from pursuhint.published import PAPERS

    chosen = {name: entry for name, entry in PAPERS.items() if paper in (None, name)}
    if as_json:
        click.echo(json.dumps({name: dict(entry.tables) for name, entry in chosen.items()}))
        return
    for name, entry in chosen.items():
        echo(f"{name}: {entry.citation}")
        for number, title in entry.tables.items():
            echo(f"  {number}  {title}")
