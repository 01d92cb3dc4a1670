"""What everybody must install: permissive licences, and the oldest versions that are tried."""

from __future__ import annotations

import configparser
import importlib.metadata
import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
PERMISSIVE = {
    "torch": "BSD-3-Clause",
    "torchvision": "BSD-3-Clause",
    "accelerate": "Apache-2.0",
    "safetensors": "Apache-2.0",
    "numpy": "BSD-3-Clause",
    "scipy": "BSD-3-Clause",
    "scikit-learn": "BSD-3-Clause",
    "pydantic": "MIT",
    "PyYAML": "MIT",
    "click": "BSD-3-Clause",
    "rich": "MIT",
    "pillow": "MIT-CMU",
    "matplotlib": "PSF-2.0",
    "Jinja2": "BSD-3-Clause",
}
"""Licences of what everybody must install, each read in the package's own files."""


def required() -> dict[str, str]:
    """Packages of ``install_requires`` with their oldest versions."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = settings["options"]["install_requires"].split()
    return {name: version for name, _, version in (line.partition(">=") for line in lines)}


def test_what_everybody_must_install_is_licensed_permissively() -> None:
    assert {name.lower() for name in required()} == {name.lower() for name in PERMISSIVE}
    for name in PERMISSIVE:
        facts = importlib.metadata.metadata(name)
        classifiers = [text for text in facts.get_all("Classifier") or () if text.startswith("License ::")]
        assert facts.get("License-Expression") or facts.get("License") or classifiers, name
        assert not any(re.search(r"GPL|GNU", text) for text in classifiers), (name, classifiers)


def test_the_oldest_versions_that_are_stated_are_those_that_are_tried() -> None:
    lines = (ROOT / ".ci" / "constraints-oldest.txt").read_text().splitlines()
    tried = dict(line.split("==") for line in lines if not line.startswith("#"))
    stated = {name: version for name, version in required().items() if name not in ("torch", "torchvision")}
    assert tried.keys() == stated.keys()
    for name, version in stated.items():
        assert re.fullmatch(rf"{re.escape(version)}(\.0)*", tried[name]), name
