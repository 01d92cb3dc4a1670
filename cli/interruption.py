"""What a command that was interrupted says: what is kept, and how it is continued."""

from __future__ import annotations

import signal
from pathlib import Path

import click

# Commands whose folder keeps what was finished; the same command continues from there.
_RESUMABLE = ("train", "analyze", "compare", "demo", "search", "crosstask", "table run")


# Where `remember_folder` keeps it for the contexts above the command's own.
_FOLDER = "pursuhint.cli.interruption.folder"


def remember_folder(context: click.Context) -> None:
    """Note where a running command writes, for the line that says what is kept."""
    context.meta[_FOLDER] = context.params.get("out")


def interruption_line(context: click.Context, number: int) -> str:
    """The line for a command that Ctrl-C or another signal stopped before its end.

    Args:
        context: of the group, whose command was interrupted.
        number: of the signal.
    """
    how = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    out = context.meta.get(_FOLDER)
    if context.invoked_subcommand in _RESUMABLE and isinstance(out, Path) and _holds_something(out):
        return f"{how}; what was saved in {out} is kept, and the same command continues from there"
    return f"{how}; nothing is half written, and the same command starts again"


def _holds_something(folder: Path) -> bool:
    try:
        return any(folder.iterdir())
    except OSError:
        return False
