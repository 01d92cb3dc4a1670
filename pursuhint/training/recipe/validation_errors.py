"""Say in plain words what pydantic finds wrong with a recipe."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from pursuhint._util.registry import did_you_mean

__all__: list[str] = []

_KIND = re.compile(r"constrained-\w+|\w+\[.*|int|float|str|bool|dict|list|tuple|([A-Z][a-z]+){2,}")
"""Steps of a pydantic path that name one of several kinds of a value, and are no key."""


def explain(details: Sequence[ErrorDetails], model: type[BaseModel]) -> list[str]:
    """One clause for every wrong value; of a value of several kinds, what the first kind says.

    Args:
        details: from pydantic's ``ValidationError.errors()``.
        model: that was validated; its keys are suggested for unknown ones.
    """
    found: dict[tuple[str | int, ...], ErrorDetails] = {}
    for detail in details:
        path = tuple(step for step in detail["loc"] if not _KIND.fullmatch(str(step)))
        found.setdefault(path, {**detail, "loc": path})
    return list(dict.fromkeys(_explain(detail, model) for detail in found.values()))


def _explain(detail: ErrorDetails, model: type[BaseModel]) -> str:
    """Rewrite a pydantic error as a clause that says what to change."""
    path = detail["loc"]
    name = ".".join(str(key) for key in path)
    kind, message = detail["type"], detail["msg"]
    if kind in ("extra_forbidden", "unexpected_keyword_argument"):
        return f"unknown key {name!r}; {did_you_mean(str(path[-1]), _keys_at(path[:-1], model))}"
    if kind == "missing":
        return f"{name!r} is missing"
    got = f", got {detail['input']!r}"
    if kind == "literal_error":
        choices = re.findall(r"'([^']*)'", str(detail.get("ctx", {}).get("expected", "")))
        return f"{name!r} has no choice {detail['input']!r}; {did_you_mean(str(detail['input']), choices)}"
    if kind in ("model_type", "dataclass_type", "dict_type"):
        return f"{name!r} must be a mapping of keys to values{got}"
    message = message.split(", ")[0]
    for start, verb in (("Input should be ", "must be "), ("Input should ", "must ")):
        if message.startswith(start):
            return f"{name!r} {verb}{message.removeprefix(start)}{got}"
    return f"{name!r}: {message[:1].lower()}{message[1:]}{got}"


def _keys_of(kind: Any) -> dict[str, Any]:
    """The keys of a section with their types; empty for any other type."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {key: field.annotation for key, field in kind.model_fields.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        return {field.name: field.type for field in fields(kind)}
    return {}


def _keys_at(path: Sequence[str | int], model: type[BaseModel]) -> list[str]:
    """The keys of the section at a path; empty if there is none."""
    keys = _keys_of(model)
    for step in path:
        kind = keys.get(str(step))
        keys = next((inner for own in (kind, *get_args(kind)) if (inner := _keys_of(own))), {})
    return list(keys)
