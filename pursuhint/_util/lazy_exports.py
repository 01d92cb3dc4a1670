"""Lazy imports of a package's public names, each name written once."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from typing import Any

__all__ = ["lazy_exports"]

Exports = tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]


def lazy_exports(package: str, *defined: str) -> Exports:
    """Make ``__getattr__``, ``__dir__`` and ``__all__`` of a package.

    The names are those that the package's ``__init__.py`` imports in its ``if TYPE_CHECKING:`` block. Type
    checkers and editors read that block as it stands; at run time this function reads it, and a name is
    imported when it is first used. Importing the package, or listing its names, imports none of its modules.

    Args:
        package: ``__name__`` of the package.
        *defined: further public names, which ``__init__.py`` defines itself.

    Returns:
        The three values in this order, for ``__getattr__, __dir__, __all__ = lazy_exports(__name__)``.
    """
    homes = _type_checking_imports(package)
    public = sorted({*homes, *defined})

    def get_attribute(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(homes[name]), name)
        setattr(sys.modules[package], name, value)
        return value

    def list_names() -> list[str]:
        return public

    return get_attribute, list_names, public


def _type_checking_imports(package: str) -> dict[str, str]:
    """The module of every name that the package imports for type checkers only."""
    spec = sys.modules[package].__spec__
    source = spec.loader.get_source(package)  # type: ignore[union-attr]
    return {
        alias.name: node.module
        for block in ast.parse(source).body
        if isinstance(block, ast.If) and getattr(block.test, "id", "") == "TYPE_CHECKING"
        for node in block.body
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
