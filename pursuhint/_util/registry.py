"""Name tables for the command line and configuration files.

A table maps a short name to ``"module:attribute"`` and is resolved only when the name is used, so that
listing names imports nothing heavy. Library code passes classes and objects; a table exists only where a
name has been typed.

Other distributions extend the tables of `GROUPS` through entry points. Their code is imported when a name is
used, never by listing names, and they cannot replace a built-in name.
"""

from __future__ import annotations

import difflib
import functools
import importlib
import importlib.metadata
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

from pursuhint.errors import PursuhintError

__all__ = ["GROUPS", "Plugin", "check_name", "did_you_mean", "load", "lookup", "plugins", "resolve"]

Entry = TypeVar("Entry")


def resolve(reference: str) -> Any:
    """Import what ``"package.module:attribute"`` names.

    Raises:
        ValueError: the reference is not of that form (a mistake in a table, not of the user).
    """
    module, separator, attribute = reference.partition(":")
    if not (module and separator and attribute):
        raise ValueError(f"{reference!r} is not of the form 'package.module:attribute'")
    return functools.reduce(getattr, attribute.split("."), importlib.import_module(module))


def closest(name: str, known: Iterable[str]) -> list[str]:
    """Up to three names that resemble ``name``: similar ones, or else longer ones that hold it."""
    by_lower_case = {choice.lower(): choice for choice in sorted(known, reverse=True)}
    typed = name.lower()
    similar = difflib.get_close_matches(typed, by_lower_case, n=3)
    longer = [choice for choice in sorted(by_lower_case) if len(typed) >= 4 and typed in choice][:3]
    return [by_lower_case[match] for match in similar or longer]


def did_you_mean(name: str, known: Iterable[str], *, shown: int = 12, choices: Sequence[str] = ()) -> str:
    """The end of an error message: the names closest to ``name``, or some of those that exist.

    Args:
        name: what was typed.
        known: the names that would have been right.
        shown: how many to list when none is close.
        choices: the names to suggest, if that is known already.
    """
    close = list(choices) or closest(name, known := list(known))
    choices = sorted(known)
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


GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "loss": "pursuhint.losses",
        "metric": "pursuhint.metrics",
        "data set": "pursuhint.datasets",
        "network": "pursuhint.models",
    }
)
"""Entry-point groups in which other distributions register names, by kind."""


@dataclass(frozen=True)
class Plugin:
    """A name that another distribution registers through an entry point.

    Attributes:
        name: the short name.
        reference: ``"package.module:attribute"``.
        distribution: name and version of the distribution.
    """

    name: str
    reference: str
    distribution: str


def plugins(kind: str) -> tuple[Plugin, ...]:
    """Names that other distributions register, in alphabetical order; none of them is loaded.

    Args:
        kind: a key of `GROUPS`.
    """
    return _plugins(GROUPS[kind], tuple(sys.path))


@functools.cache
def _plugins(group: str, path: tuple[str, ...]) -> tuple[Plugin, ...]:
    # Keyed by sys.path, which entry_points() searches: reading the metadata of every distribution takes tens
    # of milliseconds, and names are looked up many times.
    found = [
        Plugin(
            entry.name,
            entry.value.partition("[")[0].strip(),  # without the extras that may follow
            f"{entry.dist.name} {entry.dist.version}" if entry.dist else "an unknown distribution",
        )
        for entry in importlib.metadata.entry_points(group=group)
    ]
    return tuple(sorted(found, key=lambda plugin: (plugin.name, plugin.distribution)))


def check_name(kind: str, table: Mapping[str, str], name: str) -> Plugin | None:
    """Make sure that a name is in a table or registered by another distribution, without loading it.

    Args:
        kind: a key of `GROUPS`.
        table: the built-in names.
        name: what was typed.

    Returns:
        The entry point of this name; None for a built-in.

    Raises:
        PursuhintError: the name does not exist (the message suggests the closest ones), or is ambiguous:
            registered twice, or registered by a distribution although it is built in (case is ignored).
    """
    registered = plugins(kind)
    same = [plugin for plugin in registered if plugin.name.lower() == name.lower()]
    builtin = next((known for known in table if known.lower() == name.lower()), None)
    if builtin is not None and same:
        raise PursuhintError(
            f"{kind} {builtin!r} is built in, and {same[0].distribution} registers another {same[0].name!r}; "
            "rename its entry point or uninstall it"
        )
    exact = [plugin for plugin in same if plugin.name == name]
    if len(exact) > 1:
        owners = " and ".join(plugin.distribution for plugin in exact)
        raise PursuhintError(f"{kind} {name!r} is registered by {owners}; uninstall all but one")
    if name not in table and not exact:
        known = [*table, *(plugin.name for plugin in registered)]
        raise PursuhintError(f"no {kind} named {name!r}; {did_you_mean(name, known)}")
    return exact[0] if exact else None


def load(kind: str, table: Mapping[str, str], name: str) -> Any:
    """Import what a name stands for: a built-in, or an entry point of another distribution.

    Args:
        kind: as for `check_name`, like all that follow.

    Raises:
        PursuhintError: as `check_name`; or the code of the other distribution cannot be imported.
    """
    plugin = check_name(kind, table, name)
    if plugin is None:
        return resolve(table[name])
    try:
        return resolve(plugin.reference)
    except Exception as error:  # another distribution's code may raise anything when it is imported
        reason = (str(error) or repr(error)).splitlines()[0]
        raise PursuhintError(
            f"{kind} {name!r} of {plugin.distribution} ({plugin.reference}) cannot be imported: {reason}"
        ) from error
