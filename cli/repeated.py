"""Options with one value that a command line gives several times."""

from __future__ import annotations

from collections.abc import Sequence

import click

from .terminal import echo


def say_repeated(command: click.Command, words: Sequence[str]) -> None:
    """Say on stderr which options with one value are given several times, and that the last one counts.

    Args:
        command: the command.
        words: what follows its name on the command line.
    """
    try:
        context = click.Context(command, info_name=command.name, resilient_parsing=True)
        values, _, order = command.make_parser(context).parse_args(list(words))
    except click.UsageError:  # which click reports later
        return
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
