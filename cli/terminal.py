"""Lines for the person at the terminal. Whatever they contain is shown, and nothing in it is obeyed."""

from __future__ import annotations

import sys

import click

from pursuhint._util.text import printable


def echo(line: str = "", *, err: bool = False) -> None:
    """Print a line of text: see `printable` for what becomes of names with control characters."""
    click.echo(printable(line), err=err)


def say(message: str, quiet: bool = False) -> None:
    """Print a line on stderr, where progress and notes go."""
    if not quiet:
        print(printable(message), file=sys.stderr, flush=True)
