"""The documentation's site: its contents, and the pages that are written from the tables."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pursuhint.losses import LOSSES
from pursuhint.similarity import METRICS

ROOT = Path(__file__).parents[1]


def nav_pages(entry: Any) -> Iterator[str]:
    if isinstance(entry, str):
        yield entry
    else:
        for part in entry if isinstance(entry, list) else entry.values():
            yield from nav_pages(part)


def test_every_page_is_in_the_contents():
    listed = set(nav_pages(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    written = {path.name for path in (ROOT / "docs").glob("*.md")}
    assert {page for page in listed if not page.startswith("reference/")} == written


@pytest.fixture(scope="module")
def hooks():
    pytest.importorskip("mkdocs")
    pytest.importorskip("latex2mathml")
    spec = importlib.util.spec_from_file_location("site_hooks", ROOT / "docs" / "site" / "hooks.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_loss_and_metric_has_a_page(hooks):
    pages = dict(hooks.pages())
    assert pages.keys() >= {f"reference/losses/{name}.md" for name in LOSSES}
    assert pages.keys() >= {f"reference/metrics/{name}.md" for name in METRICS}
    attention = pages["reference/losses/at.md"]
    for part in ("<math", "- `absolute`: use", "`p=2`"):
        assert part in attention
    assert ":math:" not in attention
    assert "| Cost | 1.37 times a run without teacher" in attention
    assert "| Cost |" in pages["reference/metrics/ridge-cca.md"]


def test_formulas_of_docstrings_become_mathml(hooks):
    block = ".. math:: b = \\frac{1}{2} ,\n          c\n"
    text = hooks.with_formulas(f"With :math:`a^2` ``code``\n\n{block}\nafter")
    assert text.count("<math") == 2
    assert text.count('display="block"') == 1
    assert "`code`" in text.replace("``", "")
    assert text.rstrip().endswith("after")
