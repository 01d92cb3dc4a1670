"""Lines for the person at the terminal. Whatever they contain is shown, and nothing in it is obeyed."""

from __future__ import annotations

import os
import shutil
import sys

import click

from pursuhint._util.text import folded, printable


def columns() -> int | None:
    """Width of the terminal that stdout is, or what ``COLUMNS`` says; None for files and pipes."""
    if not sys.stdout.isatty() and not os.environ.get("COLUMNS", "").isdecimal():
        return None
    return max(20, shutil.get_terminal_size().columns)


def echo(line: str = "", *, err: bool = False, fold: bool = True) -> None:
    """Print a line of text: see `printable` for what becomes of names with control characters.

    Args:
        line: the text.
        err: print on stderr, where a message stays one line.
        fold: break a line that is longer than the terminal is wide between words, not inside a number.
    """
    text, width = printable(line), columns()
    for part in [text] if err or not fold or width is None else folded(text, width):
        click.echo(part, err=err)


def say(message: str, quiet: bool = False) -> None:
    """Print a line on stderr, where progress and notes go."""
    if not quiet:
        print(printable(message), file=sys.stderr, flush=True)
