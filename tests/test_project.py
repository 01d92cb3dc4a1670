"""The project itself: packaging, public names, README."""

from __future__ import annotations

import configparser
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pursuhint

ROOT = Path(__file__).parent.parent


def test_every_package_is_listed_in_setup_cfg():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    listed = set(settings["options"]["packages"].split())
    folders = {path.parent.relative_to(ROOT) for path in (ROOT / "pursuhint").rglob("__init__.py")}
    assert listed == {".".join(folder.parts) for folder in folders} | {"pursuhint.cli"}


def test_every_file_that_is_no_module_is_listed_in_setup_cfg():
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    packed = {
        path
        for package, patterns in settings["options.package_data"].items()
        for pattern in patterns.replace(",", " ").split()
        for path in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    files = {path for path in (ROOT / "pursuhint").rglob("*") if path.is_file()}
    others = {path for path in files if path.suffix not in (".py", ".pyc")}
    assert others == packed


OF_EXTRAS = {
    "pursuhint.hints.exports.modelopt",
    "pursuhint.integrations.hf_trainer",
    "pursuhint.integrations.lightning_module",
    "pursuhint.integrations.timm_task",
}
"""Modules that import the package of an extra; tests/integrations tries them where it is installed."""


def test_every_module_says_what_it_is():
    for module in pkgutil.walk_packages(pursuhint.__path__, "pursuhint."):
        if not module.name.endswith("__main__") and module.name not in OF_EXTRAS:
            assert importlib.import_module(module.name).__doc__, module.name


def test_public_names_exist_and_have_docstrings():
    for name in pursuhint.__all__:
        value = getattr(pursuhint, name)
        assert name == "__version__" or value.__doc__, name
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        pursuhint.nonsense  # noqa: B018


def test_importing_the_package_imports_no_torch():
    code = (
        "import pursuhint, pursuhint.losses, pursuhint.models, pursuhint.data, pursuhint.similarity, sys\n"
        "import pursuhint.clustering, pursuhint.recipes, pursuhint.study, pursuhint.report\n"
        "assert not {'torch', 'matplotlib', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_readme_commands_exist():
    from pursuhint.cli.main import COMMANDS, main

    readme = (ROOT / "README.md").read_text().replace("\\\n", " ")
    used = re.findall(r"^pursuhint (\w+)(.*)$", readme, flags=re.MULTILINE)
    assert {command for command, _ in used} >= {"demo", "points", "analyze", "train", "compare"}
    for command, rest in used:
        assert command in COMMANDS
        known = {option for parameter in main.get_command(None, command).params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+", rest)) <= known, command
