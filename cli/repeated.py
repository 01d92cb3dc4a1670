"""Options with one value that a command line gives several times."""

from __future__ import annotations

import click

from .terminal import echo
from .typed_words import TypedWords


def say_repeated(typed: TypedWords) -> None:
    """Say on stderr which options with one value are given several times, and that the last one counts."""
    values, order = typed
    for option in dict.fromkeys(order):
        switch = isinstance(option, click.Option) and option.is_flag and not option.secondary_opts
        if not isinstance(option, click.Option) or option.multiple or switch or order.count(option) < 2:
            continue
        last = values[str(option.name)]
        counts = f"{option.opts[0]} {last}"
        if option.is_flag:
            counts = (option.opts if last else option.secondary_opts)[0]
        echo(
            f"note: {option.opts[0]} is given {order.count(option)} times; the last one counts: {counts}",
            err=True,
        )
