"""Options and output of commands whose result is a table for papers and notes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from pursuhint.errors import PursuhintError
from pursuhint.published.formats import FORMATS, as_html_page, as_text, without_empty_columns

from .output_files import check_free
from .terminal import columns, echo, say

if TYPE_CHECKING:
    from pursuhint.published import Table

_FORMAT = click.option(
    "--format",
    "kind",
    type=click.Choice(list(FORMATS)),
    default="text",
    show_default=True,
    help="How the table is written.",
)
_OUT = click.option(
    "--out", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="Write it to this file."
)


def table_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--format`` and ``--out``."""
    return _FORMAT(_OUT(command))


def check_table_options(kind: str, as_json: bool, out: Path | None, *, overwrite: bool) -> None:
    """Refuse a format beside ``--json``, and a file that is there already.

    Raises:
        PursuhintError: both are given; or ``out`` exists, and ``overwrite`` is not set.
    """
    check_free(out, overwrite=overwrite)
    if as_json and kind != "text":
        raise PursuhintError(f"--json and --format {kind} exclude each other")


def write_table(table: Table, plain: Any, *, kind: str, out: Path | None, quiet: bool = False) -> None:
    """Print a table, or write it to a file: as HTML, a whole page. Columns without entries stay in CSV alone.

    Args:
        table: for people.
        plain: the result for ``--json``, as plain values; None to write the table.
        kind: a key of `pursuhint.published.formats.FORMATS`.
        out: the file; None for stdout.
        quiet: do not say on stderr what was written.
    """
    from pursuhint._util.atomic_files import write_text

    if kind != "csv":
        table = without_empty_columns(table)
    if plain is not None:
        written = json.dumps(plain) + "\n"
    elif kind == "html" and out is not None:
        written = as_html_page(table)
    elif kind == "text" and out is None:
        written = as_text(table, columns())
    else:
        written = FORMATS[kind](table)
    if out is None:
        for line in written.splitlines():
            echo(line, fold=plain is None and kind == "text")
    else:
        write_text(out, written)
        say(f"written: {out}", quiet)
