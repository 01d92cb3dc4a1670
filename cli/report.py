"""``pursuhint report``"""

from __future__ import annotations

import json
from pathlib import Path

import click

from .options import apply, examples, folder_argument

__all__ = ["command"]


@click.command(
    "report",
    short_help="Write the HTML report of an analysis, run, comparison or demo.",
    epilog=examples("pursuhint report runs/at"),
)
@folder_argument("folder")
@apply("json")
def command(folder: Path, as_json: bool) -> None:
    """Write one self-contained HTML page about what FOLDER holds, and its figures as PNG files."""
    from pursuhint.report import write_report

    page = write_report(folder)
    click.echo(json.dumps({"report": str(page)}) if as_json else str(page))
