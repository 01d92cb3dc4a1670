"""Read recipe files into plain values: inheritance from other recipes, and variants.

Two keys belong to the file and not to the recipe. ``extends: NAME|FILE`` starts from a base recipe: sections
are merged key by key; a value or a list replaces the base's. ``variants`` holds named changes of the same
form; ``NAME:VARIANT`` selects one, such as ``cifar100-reviewkd:resnet56-resnet20``. Variants of one name are
merged from base to derived recipe and applied last. A run stores the complete result.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pursuhint._util import input_files
from pursuhint._util.registry import did_you_mean, lookup
from pursuhint._util.yaml_text import parse_yaml
from pursuhint.errors import PursuhintError
from pursuhint.recipes import RECIPES, is_recipe, recipe_text
from pursuhint.training.recipe.hint_keys import keys_without_effect

__all__ = ["variant_names"]

_LONGEST_LINE = 8  # depth of inheritance
_LARGEST_RECIPE = 1 << 20  # bytes


def read_recipe(name_or_file: str | Path) -> tuple[dict[str, Any], str]:
    """Read a shipped recipe or a file into plain values, with all that it inherits.

    Args:
        name_or_file: a name of `pursuhint.recipes.RECIPES` or a YAML file, with an optional ``:VARIANT``. It
            is read as a file if that exists or if it looks like a path (a folder in it, or ``.yaml``).

    Returns:
        The values, and their name for messages.

    Raises:
        PursuhintError: the recipe, file or variant does not exist; a file cannot be read; recipes extend one
            another in a cycle.
    """
    name, variant = _split(name_or_file)
    values, variants, source = _named(name, Path(), ())
    if variant is None:
        return values, source
    if variant not in variants:
        raise PursuhintError(f"{source} has no variant {variant!r}; {did_you_mean(variant, variants)}")
    return merged(values, variants[variant]), f"{source}, variant {variant!r}"


def read_text(text: str, source: str) -> dict[str, Any]:
    """Parse a recipe's text into plain values, with all that it inherits from shipped recipes and files.

    Args:
        text: YAML; an empty text is an empty recipe.
        source: name of the recipe in messages.

    Raises:
        PursuhintError: not valid YAML, not a mapping, or as `read_recipe`.
    """
    return _with_bases(_mapping(text, source), source, Path(), ())[0]


def variant_names(name: str) -> tuple[str, ...]:
    """Names of a shipped recipe's variants, inherited ones included."""
    return tuple(_named(name, Path(), ())[1])


_NAMED = {"data": "name", "student": "network", "teacher": "network"}
"""Sections that may be written as a name, and the key that this is short for."""


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with ``changes``: mappings are merged key by key, anything else replaces.

    A name in the place of a mapping (``data: cifar100``) keeps its place in a mapping of changes.
    Of hints whose strategy changes, the base's keys that the new strategy ignores are left out.
    """
    result = dict(base)
    for key, value in changes.items():
        before = result.get(key)
        if key in _NAMED and isinstance(before, str) and isinstance(value, Mapping):
            before = {_NAMED[key]: before}
        if key == "hints" and isinstance(before, Mapping) and isinstance(value, Mapping):
            value = _merged_hints(before, value)
        elif isinstance(before, Mapping) and isinstance(value, Mapping):
            value = merged(before, value)
        result[key] = value
    return result


def _merged_hints(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    together = {**base, **changes}
    if any(together.get(key) != base.get(key) for key in ("strategy", "file", "points")):
        ignored = keys_without_effect(together)
        return {key: value for key, value in together.items() if key in changes or key not in ignored}
    return together


def _split(name_or_file: str | Path) -> tuple[str | Path, str | None]:
    """Split a name or file from the variant after its last colon."""
    if isinstance(name_or_file, Path) or is_recipe(name_or_file) or Path(name_or_file).is_file():
        return name_or_file, None
    name, separator, variant = name_or_file.rpartition(":")
    names_something = is_recipe(name) or Path(name).suffix in (".yaml", ".yml")
    return (name, variant) if separator and names_something else (name_or_file, None)


def _named(
    name: str | Path, folder: Path, seen: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any], str]:
    """Values, variants and name of a recipe, merged onto its base recipes."""
    text, source, own_folder = _read(name, folder)
    if source in seen or len(seen) == _LONGEST_LINE:
        raise PursuhintError(f"recipes extend one another in a circle: {' -> '.join((*seen, source))}")
    values, variants = _with_bases(_mapping(text, source), source, own_folder, (*seen, source))
    return values, variants, source


def _with_bases(
    values: dict[str, Any], source: str, folder: Path, seen: tuple[str, ...]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Values and variants merged onto the recipe that ``extends`` names."""
    base, variants = values.pop("extends", None), values.pop("variants", None) or {}
    if not (isinstance(variants, Mapping) and all(isinstance(v, Mapping) for v in variants.values())):
        raise PursuhintError(f"{source}: 'variants' must be a mapping of names to mappings of keys to values")
    if base is None:
        return values, dict(variants)
    if not isinstance(base, str):
        raise PursuhintError(f"{source}: 'extends' must be a recipe's name or a file, got {base!r}")
    below, inherited, _ = _named(base, folder, seen)
    return merged(below, values), merged(inherited, variants)


def _mapping(text: str, source: str) -> dict[str, Any]:
    return copy.deepcopy(_parsed(text, source))


@functools.lru_cache(maxsize=256)
def _parsed(text: str, source: str) -> dict[str, Any]:
    """The values of a text. A grid of a table reads the same few bases hundreds of times."""
    values = parse_yaml(text, source)
    if values is not None and not isinstance(values, Mapping):
        raise PursuhintError(f"{source} must be a mapping of keys to values, got {type(values).__name__}")
    return dict(values or {})


def _read(name: str | Path, folder: Path) -> tuple[str, str, Path]:
    """Text of a recipe, its name for messages, and the folder that its ``extends`` is relative to."""
    if isinstance(name, str) and is_recipe(name):
        return recipe_text(name), f"recipe {name!r}", Path()
    path = folder / name
    if not (path.is_file() or path.suffix in (".yaml", ".yml") or len(Path(name).parts) > 1):
        lookup("recipe", RECIPES, str(name))
    text = input_files.read_text(path, "recipe", largest=_LARGEST_RECIPE)
    return text, f"the recipe {path}", path.parent
