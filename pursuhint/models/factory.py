"""Call a network factory; errors list the options that it takes."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

from pursuhint._util.registry import did_you_mean
from pursuhint.errors import PursuhintError

# What PyTorch says of a tensor that is too large for memory, or whose size is no 64-bit number.
_TOO_LARGE = re.compile("allocate memory|out of memory|overflow|invalid size|too large", re.IGNORECASE)


def call_factory(
    name: str, factory: Callable[..., Any], sizes: Mapping[str, Any], options: Mapping[str, Any]
) -> Any:
    """Return ``factory(**sizes, **options)`` without the sizes that its signature lacks.

    Args:
        name: of the network, for messages.
        factory: function or class.
        sizes: keywords derived from data and name, such as ``num_classes``; dropped if not taken.
        options: keywords of the user.

    Raises:
        PursuhintError: unknown option or value, an option that ``sizes`` sets already, or a required argument
            in neither; or the network does not fit into memory.
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
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _TOO_LARGE.search(str(error)):
            raise
        asked = ", ".join(f"{key}={value!r}" for key, value in {**passed, **options}.items())
        raise PursuhintError(f"{name} does not fit into memory ({asked})") from None
    except (TypeError, ValueError) as error:
        if not options:
            raise
        asked = ", ".join(f"{option}={value!r}" for option, value in options.items())
        raise PursuhintError(f"{name} cannot be built with {asked}: {error}") from error
