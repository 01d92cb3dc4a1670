"""Keyword-only arguments that several constructors share, written once as a record."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import typing
from collections.abc import Callable
from typing import Any, TypeVar

__all__ = ["flat_options"]

Class = TypeVar("Class", bound=type)


def flat_options(record: type, **defaults: Any) -> Callable[[Class], Class]:
    """Let a class take the fields of a record as keyword-only arguments of its constructor.

    The constructor is written with one keyword-only argument ``options``, the record. Callers pass the fields
    instead, and the decorated constructor makes the record. Its signature and annotations have a parameter
    for every field, and the ``Args:`` of the class's docstring end with those of the record:
    `pursuhint.losses.Loss.hyperparameters`, `pursuhint.losses.Loss.checked` and ``help`` read these.

    Args:
        record: a frozen dataclass. Its docstring, and that of a dataclass that it extends, has ``Args:``.
        **defaults: fields whose default differs for this class.
    """
    types = typing.get_type_hints(record)
    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=defaults.get(field.name, field.default),
            annotation=types[field.name],
        )
        for field in dataclasses.fields(record)
    ]

    def decorate(cls: Class) -> Class:
        written: Callable[..., None] = cls.__dict__["__init__"]

        @functools.wraps(written)
        def constructor(self: Any, *sizes: Any, **chosen: Any) -> None:
            fields = {entry.name: chosen.pop(entry.name, entry.default) for entry in shared}
            written(self, *sizes, options=record(**fields), **chosen)

        signature = inspect.signature(written)
        own = [entry for entry in signature.parameters.values() if entry.name != "options"]
        flat: Any = constructor
        flat.__signature__ = signature.replace(parameters=[*own, *shared])
        flat.__annotations__ = {
            **{name: kind for name, kind in written.__annotations__.items() if name != "options"},
            **{entry.name: entry.annotation for entry in shared},
        }
        changed: Any = cls
        changed.__init__ = constructor
        changed.__doc__ = _with_arguments(cls.__doc__, record)
        return cls

    return decorate


def _with_arguments(docstring: str | None, record: type) -> str | None:
    """A docstring whose ``Args:`` end with those of a record; None without docstrings, as under ``-OO``."""
    if docstring is None:
        return None
    before, title, after = inspect.cleandoc(docstring).partition("\nArgs:\n")
    own, *rest = after.split("\n\n")
    shared = [_arguments(part) for part in reversed(record.__mro__)]
    return before + title + "\n\n".join(["\n".join([own.rstrip(), *filter(None, shared)]), *rest])


def _arguments(record: type) -> str:
    """The entries below ``Args:`` in the docstring that a dataclass has itself."""
    docstring = inspect.cleandoc(record.__dict__.get("__doc__") or "")
    return docstring.partition("\nArgs:\n")[2].partition("\n\n")[0].rstrip()
