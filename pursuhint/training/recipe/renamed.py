"""Renamed recipe keys, so that an old recipe is refused with the new name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pursuhint.errors import PursuhintError

RENAMED_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "engine": "acceleration",
        "engine.fold_norms": "acceleration.fuse_batchnorm",
        "acceleration.fold_norms": "acceleration.fuse_batchnorm",
        "losses.ipwd.standardise": "losses.ipwd.standardize",
        "losses.norm.normalise_logits": "losses.norm.normalize_logits",
        "losses.skd.normalisation": "losses.skd.normalization",
    }
)
"""Old key -> new key, both from the top of the recipe."""

RENAMED_VALUES: Mapping[tuple[str, str], str] = MappingProxyType(
    {("losses.cc.relation", "neighbours"): "neighbors"}
)
"""(key, old value) -> new value."""


def refuse_old_names(values: Any, source: str) -> None:
    """Refuse old names of keys and values in a recipe.

    Args:
        values: values of a recipe, nested as in YAML; anything but a mapping passes.
        source: the recipe's name in the error message.

    Raises:
        PursuhintError: an old name is used; the message has the new one.
    """
    problems = [
        f"{old!r} is called {new!r} now"
        for old, new in RENAMED_KEYS.items()
        if _find(values, old) is not None
    ]
    problems += [
        f"the value {old!r} of {key!r} is called {new!r} now"
        for (key, old), new in RENAMED_VALUES.items()
        if _find(values, key) == (old,)
    ]
    if problems:
        raise PursuhintError(f"{source}: {'; '.join(problems)}")


def _find(values: Any, key: str) -> tuple[Any] | None:
    """The entry at a dotted key, in a tuple because it may be None; None if there is no such key."""
    for step in key.split("."):
        if not isinstance(values, Mapping) or step not in values:
            return None
        values = values[step]
    return (values,)
