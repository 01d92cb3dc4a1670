"""The words of a command line as click reads them, before the options are converted and checked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import click


def in_home(word: str) -> str:
    """A word with the user's folder in place of a ``~`` that is left, as bash leaves ``--out=~/runs``."""
    option, equals, value = word.rpartition("=") if word.startswith("--") else ("", "", word)
    return f"{option}{equals}{os.path.expanduser(value)}" if value.startswith("~/") else word


class TypedWords(NamedTuple):
    """What was typed.

    Attributes:
        values: the text of every option and argument that is there, by the name of its parameter.
        order: the parameters in the order of their words, one entry for each time.
    """

    values: dict[str, Any]
    order: list[click.Parameter]

    @classmethod
    def of(
        cls, command: click.Command, words: Sequence[str], parent: click.Context | None = None
    ) -> TypedWords:
        """Read what follows the name of a command; nothing where click will refuse it.

        Args:
            command: the command.
            words: what follows its name.
            parent: the context of the group. A command keeps the option for help that its first context
                gives it, so without the group's context ``-h`` would be none.
        """
        context = click.Context(command, parent, info_name=command.name, resilient_parsing=True)
        try:
            values, _, order = command.make_parser(context).parse_args(list(words))
        except click.UsageError:
            return cls({}, [])
        return cls(values, order)
