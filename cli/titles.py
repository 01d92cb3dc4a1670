"""What the things in a table of names are called, read from their source: nothing is imported."""

from __future__ import annotations

import ast
import functools
from importlib.util import find_spec
from pathlib import Path


def title_of(reference: str) -> str:
    """The first line of the docstring of a function or class, or the title in a record's arguments.

    Args:
        reference: ``package.module:name``, as in the tables of this package.

    Returns:
        Text without a period at its end; empty if the source does not say.
    """
    module, _, name = reference.partition(":")
    for node in _statements(module):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return (ast.get_docstring(node) or "").partition("\n")[0].removesuffix(".")
        target = node.targets[0] if isinstance(node, ast.Assign) else getattr(node, "target", None)
        if isinstance(target, ast.Name) and target.id == name:
            texts = [part.value for part in ast.walk(node) if isinstance(part, ast.Constant)]
            return next((text for text in texts[1:] if isinstance(text, str)), "")
    return ""


def method_of(reference: str) -> str:
    """The name of a loss in the literature, ``title`` in its record of traits.

    Args:
        reference: ``package.module:Class``, as in the table of losses.

    Returns:
        The title; empty if the class's own statements do not give one.
    """
    module, _, name = reference.partition(":")
    for node in _statements(module):
        if isinstance(node, ast.ClassDef) and node.name == name:
            keywords = [
                part for inner in node.body for part in ast.walk(inner) if isinstance(part, ast.keyword)
            ]
            values = [part.value for part in keywords if part.arg == "title"]
            return next((str(value.value) for value in values if isinstance(value, ast.Constant)), "")
    return ""


@functools.cache
def _statements(module: str) -> tuple[ast.stmt, ...]:
    spec = find_spec(module)
    if spec is None or spec.origin is None:
        return ()
    return tuple(ast.parse(Path(spec.origin).read_text(encoding="utf-8")).body)
