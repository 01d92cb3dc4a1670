"""An adapter to another library stays a page that one reads through."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

import pursuhint.integrations

FOLDER = Path(inspect.getfile(pursuhint.integrations)).parent
MOST = 60


def code_lines(source: str) -> int:
    """Lines on which code begins or ends: no blank ones, comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            del node.body[0]
    ends = [
        (node.lineno, node.lineno if hasattr(node, "body") else node.end_lineno)
        for node in ast.walk(tree)
        if hasattr(node, "lineno")
    ]
    return len({line for pair in ends for line in pair})


@pytest.mark.parametrize("name", ["hf_trainer", "lightning_module", "timm_task"])
def test_an_adapter_has_fewer_than_60_lines_of_code(name):
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert 30 < code_lines(source) < MOST
