"""What the package exports is there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import pursuhint.integrations


@pytest.mark.parametrize("name", pursuhint.integrations.__all__)
def test_exported_names_exist(name):
    try:
        assert getattr(pursuhint.integrations, name).__doc__
    except ModuleNotFoundError as error:
        pytest.skip(f"needs {error.name}")


def test_adapters_are_short():
    """Their statements; docstrings do not count."""
    for path in Path(pursuhint.integrations.__path__[0]).glob("*.py"):
        tree = ast.parse(path.read_text())
        lines: set[int] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.stmt) and not (
                isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
            ):
                end = node.end_lineno if not hasattr(node, "body") else node.lineno
                lines.update(range(node.lineno, end + 1))
        assert len(lines) < 60, path.name
