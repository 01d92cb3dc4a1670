"""The house: what may import what, what is public, and where things stand."""

from __future__ import annotations

import configparser
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pursuhint.training.recipe.renamed import RENAMED_KEYS, RENAMED_VALUES
from tests.test_benchmarks import script

ROOT = Path(__file__).parents[1]
structure = script("structure")


@pytest.fixture(scope="module")
def layers():
    return structure.read_layers((ROOT / "setup.cfg").read_text())


@pytest.fixture(scope="module")
def house(layers):
    return structure.Structure(structure.read_folder(ROOT), layers)


def small(layers, **sources):
    """A package of a few files; ``a__b="..."`` is the file a/b.py in it."""
    files = {f"pursuhint/{name.replace('__', '/')}.py": text for name, text in sources.items()}
    folders = {Path(name).parent.as_posix() for name in files} | {"pursuhint"}
    return structure.Structure({f"{folder}/__init__.py": "" for folder in folders} | files, layers)


# -- the house --------------------------------------------------------------------------------------------


def test_packages_import_from_lower_layers_only(house):
    assert [str(edge) for edge in house.arrows_up] == []


def test_every_package_has_a_layer(house):
    assert house.is_layered


def test_packages_form_no_cycle(house):
    assert house.cycles == []


def test_only_a_few_modules_stand_at_the_top(house):
    assert {name.rpartition(".")[2] for name in house.top_modules} == {
        "__main__",
        "_version",
        "demo",
        "errors",
    }


def test_public_names_of_modules_are_exported_by_their_package(house):
    assert house.unexported == {}


def test_no_export_has_the_name_of_a_module(house):
    assert house.named_as_modules == []


def test_every_module_has_a_docstring(house):
    assert [name for name, tree in house.trees.items() if not structure.ast.get_docstring(tree)] == []


def test_exported_names_exist(house):
    for package in set(house.first_level) - {"pursuhint.integrations"}:  # needs the extras, see its own tests
        module = importlib.import_module(package)
        names = getattr(module, "__all__", [])
        assert [name for name in names if not hasattr(module, name)] == [], package


@pytest.mark.parametrize("folder", ["pursuhint", "cli"])
def test_docstrings_refer_to_names_where_they_can_be_imported(folder):
    entry_points = {"pursuhint.datasets", "pursuhint.metrics"}  # groups, not names in Python
    missing = []
    for path in sorted((ROOT / folder).rglob("*.py")):
        for name in re.findall(r"(?<!`)`(pursuhint(?:\.\w+)+)`(?!`)", path.read_text(encoding="utf-8")):
            try:
                assert name in entry_points or pkgutil.resolve_name(name) is not None
            except (AttributeError, ImportError):
                missing.append(f"{path.relative_to(ROOT)}: {name}")
    assert not missing


def test_the_changelog_names_modules_as_they_are_and_were(house):
    _, found, modules = (ROOT / "CHANGELOG.md").read_text().partition("| Module | now |")
    assert found
    rows = re.findall(r"^\| `([\w.]+)` \| `([\w.]+)` \|$", modules, flags=re.MULTILINE)
    gone = {f"pursuhint.{old}" for old, _ in rows} - house.folders  # a folder may have the name of a module
    assert len(rows) > 100
    assert {f"pursuhint.{new}" for _, new in rows} <= set(house.trees)
    assert gone.isdisjoint(house.trees)


def test_the_changelog_names_every_recipe_key_that_is_refused():
    text = (ROOT / "CHANGELOG.md").read_text()
    names = {name for pair in RENAMED_KEYS.items() for name in pair}
    assert [name for name in sorted(names) if f"`{name}`" not in text and f"`{name}:`" not in text] == []
    changed = {f"{key}={value}" for (key, old), new in RENAMED_VALUES.items() for value in (old, new)}
    assert [name for name in sorted(changed) if f"`{name}`" not in text] == []


# -- the contract ------------------------------------------------------------------------------------------


def test_the_contract_names_every_package(house, layers):
    named = [name for layer in layers for name in layer]
    assert len(named) == len(set(named))
    assert {*house.first_level, "cli"} <= set(named)


def test_import_linter_reads_the_same_contract():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    assert settings["importlinter"]["root_packages"].split() == ["pursuhint", "cli"]
    assert settings["importlinter:contract:layers"]["type"] == "layers"
    assert "lint-imports" in (ROOT / ".ci" / "run").read_text()


# -- the check itself --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "import pursuhint.training.loop",
        "from pursuhint.training import loop",
        "from pursuhint.training.loop import run",
        "from ..training.loop import run",
        "def late():\n    from pursuhint.training import loop",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from pursuhint.training.loop import run",
        "from pursuhint.similarity import cka",
        "from pursuhint import train",
        "import pursuhint",
        "from pursuhint.cli import main",
    ],
)
def test_an_import_of_a_higher_package_is_found(layers, line):
    tree = small(layers, hints__plan=line, training__loop="", similarity__cka="")
    assert [edge.importer for edge in tree.arrows_up] == ["pursuhint.hints.plan"]


@pytest.mark.parametrize(
    "line",
    [
        "from pursuhint.features import tap",
        "from pursuhint.features.tap import Tap",
        "from .selection import select",
        "from . import selection",
        "from pursuhint.errors import PursuhintError",
        "import torch",
    ],
)
def test_an_import_of_a_lower_package_is_allowed(layers, line):
    tree = small(layers, hints__plan=line, hints__selection="", features__tap="", errors="")
    assert tree.arrows_up == []


def test_cycles_and_floors_are_counted(layers):
    chain = {
        "analysis__a": "import pursuhint.hints.b",
        "hints__b": "import pursuhint.data.c",
        "data__c": "",
    }
    assert (small(layers, **chain).cycles, small(layers, **chain).floors) == ([], 3)
    ring = small(layers, **{**chain, "data__c": "import pursuhint.analysis.a"})
    assert ring.cycles == [["pursuhint.analysis", "pursuhint.data", "pursuhint.hints"]]


def test_modules_at_the_top_count_as_one_folder(layers):
    flat = small(layers, points="import pursuhint.data.c", data__c="import pursuhint.files", files="")
    assert flat.cycles == [["pursuhint", "pursuhint.data"]]
    assert not flat.is_layered


def test_names_that_nobody_exports_are_found(layers):
    tree = small(layers, hints__plan='__all__ = ["HintPlan"]', hints___inner='__all__ = ["x"]')
    assert tree.unexported == {"pursuhint.hints.plan": ["HintPlan"]}


def test_signatures_are_counted_without_self(layers):
    code = "class A:\n    def f(self, a, b=1, *, c=2): ...\ndef g(a, /, b): ..."
    assert [
        (entry.name, entry.parameters, entry.positional)
        for entry in small(layers, hints__plan=code).signatures
    ] == [("pursuhint.hints.plan.A.f", 3, 2), ("pursuhint.hints.plan.g", 2, 2)]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not in a git repository")
def test_the_script_prints_a_table_with_a_revision_beside_the_tree():
    command = [sys.executable, "benchmarks/structure.py", "--against", "HEAD"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("|  | HEAD | working tree |")
    assert "| imports that go up | 0 | 0 |" in done.stdout


def test_the_script_refuses_a_revision_that_does_not_exist():
    command = [sys.executable, "benchmarks/structure.py", "--against", "no-such-revision"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("git cannot read revision 'no-such-revision'")
