"""Name tables for the command line and configuration files.

A table maps a short name to ``"module:attribute"`` and is resolved only when the name is used, so that
listing names imports nothing heavy. Library code passes classes and objects; a table exists only where a
name has been typed.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from pursuhint.errors import PursuhintError

__all__ = ["did_you_mean", "lookup", "resolve"]

Entry = TypeVar("Entry")


def resolve(reference: str) -> Any:
    """Import what ``"package.module:attribute"`` names.

    Raises:
        ValueError: the reference is not of that form (a mistake in a table, not of the user).
    """
    module, separator, attribute = reference.partition(":")
    if not (module and separator and attribute):
        raise ValueError(f"{reference!r} is not of the form 'package.module:attribute'")
    return getattr(importlib.import_module(module), attribute)


def did_you_mean(name: str, known: Iterable[str], *, shown: int = 12) -> str:
    """The end of an error message: the names closest to ``name``, or some of those that exist.

    Args:
        name: what was typed.
        known: the names that would have been right.
        shown: how many to list when none is close.
    """
    choices = sorted(known)
    by_lower_case = {choice.lower(): choice for choice in reversed(choices)}
    close = [by_lower_case[match] for match in difflib.get_close_matches(name.lower(), by_lower_case, n=3)]
    if close:
        return "did you mean " + " or ".join(repr(choice) for choice in close) + "?"
    if not choices:
        return "there are none"
    more = f" and {len(choices) - shown} more" if len(choices) > shown else ""
    return "there are " + ", ".join(choices[:shown]) + more


def lookup(kind: str, table: Mapping[str, Entry], name: str) -> Entry:
    """Return ``table[name]``.

    Args:
        kind: what the table holds, in the singular, for the message ("loss", "metric", "data set").
        table: the names that exist.
        name: what was typed.

    Raises:
        PursuhintError: the name is not in the table; the message suggests the closest ones.
    """
    try:
        return table[name]
    except KeyError:
        raise PursuhintError(f"no {kind} named {name!r}; {did_you_mean(name, table)}") from None
