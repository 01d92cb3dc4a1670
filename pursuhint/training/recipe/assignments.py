"""Assignments ``KEY=VALUE`` to the plain values of a recipe, as ``--set`` takes them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pursuhint.errors import PursuhintError
from pursuhint.losses import ALIASES
from pursuhint.training.recipe.hint_keys import with_effect
from pursuhint.training.recipe.loss_syntax import parse_value

__all__: list[str] = []

_SHORT_FORMS = {
    "student": "network",
    "teacher": "network",
    "data": "name",
    "hints": "strategy",
    "schedule": "kind",
}


def assign(values: dict[str, Any], assignment: str) -> None:
    """Set one entry.

    Args:
        values: of a complete recipe; changed in place.
        assignment: ``"optimizer.lr=0.1"``; see `pursuhint.Recipe.override`.

    Raises:
        PursuhintError: it has no ``=``, or sets a key below a plain value.
    """
    key, separator, text = assignment.partition("=")
    if not separator or not all(key.strip().split(".")):
        raise PursuhintError(f"cannot read {assignment!r}; write KEY=VALUE, e.g. optimizer.lr=0.1")
    path, value = key.strip().split("."), parse_value(text)
    if path[0] == "losses":
        path[1:2] = [ALIASES.get(name, name) for name in path[1:2]]
    _set(values, path, value)
    if path == ["hints", "points"] and value:  # points are a strategy of their own
        values["hints"] |= {"strategy": "explicit", "file": None, "k": None}
    new_strategy = path[0] == "hints" and path[1:] in ([], ["strategy"], ["file"])
    if new_strategy and isinstance(values["hints"], dict):
        values["hints"] = with_effect(values["hints"])  # without the keys of the strategy before it


def _set(values: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a nested entry. A section that is None starts from defaults; a short form sets one key of it."""
    if isinstance(_get(values, path), dict) and not isinstance(value, dict):
        if path[0] == "losses" and len(path) == 2:
            path = [*path, "weight"]
        elif len(path) == 1 and path[0] in _SHORT_FORMS and value is not None:
            path = [path[0], _SHORT_FORMS[path[0]]]
    for depth, key in enumerate(path[:-1], start=1):
        if values.get(key) is None:
            values[key] = {}
        values = values[key]
        if not isinstance(values, dict):
            name = ".".join(path[:depth])
            raise PursuhintError(f"recipe key {name!r} holds a value, not keys; write {name}=VALUE")
    values[path[-1]] = value


def _get(values: Any, path: Sequence[str]) -> Any:
    for key in path:
        values = values.get(key) if isinstance(values, dict) else None
    return values
