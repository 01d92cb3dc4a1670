"""Recipes shipped with the package: one YAML file each, settings and sources of the papers inside."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import resources
from types import MappingProxyType

from pursuhint.tables import lookup

__all__ = ["RECIPES", "recipe_text"]

RECIPES: Mapping[str, str] = MappingProxyType(
    {
        "digits": "a student on the digits, in seconds",
        "digits-at": "attention transfer on the digits, for a first try",
    }
)
"""Name of every shipped recipe and what it is for; the file is ``NAME.yaml`` beside this one."""


def recipe_text(name: str) -> str:
    """The YAML text of a shipped recipe, comments included.

    Raises:
        PursuhintError: there is none of that name; the message suggests the closest ones.
    """
    lookup("recipe", RECIPES, name)
    return resources.files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")
