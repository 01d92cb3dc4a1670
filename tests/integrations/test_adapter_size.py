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
    """Lines that hold code: no blank ones, comments and docstrings."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node):
            node.body[0] = ast.Pass()
    lines = ast.unparse(tree).splitlines()
    written = {number for node in ast.walk(tree) if hasattr(node, "lineno") for number in (node.lineno,)}
    return max(len(written), sum(line.strip() not in ("", "pass") for line in lines))


@pytest.mark.parametrize("name", ["hf_trainer", "lightning_module", "timm_task"])
def test_an_adapter_has_fewer_than_60_lines_of_code(name):
    source = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
    assert 30 < code_lines(source) < MOST
