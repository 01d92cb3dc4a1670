"""Calling a function that builds a network, with errors that say what it would have taken."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pursuhint._util.registry import did_you_mean
from pursuhint.errors import PursuhintError


def call_factory(
    name: str, factory: Callable[..., Any], sizes: Mapping[str, Any], options: Mapping[str, Any]
) -> Any:
    """Return ``factory(**sizes, **options)``, leaving out those sizes that it does not take.

    Args:
        name: what the network is called, for messages.
        factory: function or class.
        sizes: what follows from the data and the name, such as ``num_classes``; never an error.
        options: what the user asked for by name.

    Raises:
        PursuhintError: the factory has no such option or not that value of it, the name already fixes it, or
            the factory needs an argument that is in neither.
    """
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):  # some functions written in C
        raise PursuhintError(f"{name} does not say what it takes; wrap it in a Python function") from None
    by_name = {p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)}
    takes_anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    for option in options:
        if option in sizes:
            raise PursuhintError(
                f"{option} of {name} is already set to {sizes[option]}; leave the option out"
            )
        if option not in by_name and not takes_anything:
            known = by_name - sizes.keys()
            choice = did_you_mean(option, known) if known else "it has none"
            raise PursuhintError(f"{name} has no option {option!r}; {choice}")
    required = {p.name for p in parameters if p.default is p.empty and p.name in by_name}
    if missing := sorted(required - sizes.keys() - options.keys()):
        raise PursuhintError(f"{name} needs the option {' and '.join(map(repr, missing))}")
    passed = {key: value for key, value in sizes.items() if takes_anything or key in by_name}
    try:
        return factory(**passed, **options)
    except (TypeError, ValueError) as error:
        if not options:
            raise
        asked = ", ".join(f"{option}={value!r}" for option, value in options.items())
        raise PursuhintError(f"{name} cannot be built with {asked}: {error}") from error
