"""What everybody must install: permissive licences, and the oldest versions that are tried."""

from __future__ import annotations

import configparser
import importlib.metadata
import re
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
PERMISSIVE = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
    "CC0-1.0", "ISC", "MIT", "MIT-CMU", "PSF-2.0", "Unlicense", "Zlib",
}  # fmt: skip
"""SPDX identifiers of licences under which a package may be required."""

OF_FILES = {"MPL-2.0"}
"""Copyleft of the package's own files alone, as tqdm and certifi have it: allowed below what we name."""

SPELLINGS = {
    "Apache": "Apache-2.0",
    "Apache 2.0": "Apache-2.0",
    "Apache License 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD": "BSD-3-Clause",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
"""What metadata of before SPDX say; their "BSD" does not tell the clauses."""

PROPRIETARY = re.compile(r"nvidia-.+|cuda-toolkit")
"""Libraries of NVIDIA's that PyTorch for CUDA asks for; PyTorch for the CPU does not."""


def required() -> dict[str, str]:
    """Packages of ``install_requires`` with their oldest versions."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    lines = settings["options"]["install_requires"].split()
    return {name: version for name, _, version in (line.partition(">=") for line in lines)}


def conditions(facts: Message) -> list[set[str]]:
    """What a distribution's metadata say of its licence: all of the list hold, by choice of each set.

    The SPDX expression counts, else the classifiers, else a licence that is named and not quoted at length.
    """
    if expression := facts.get("License-Expression"):
        texts = [expression]
    else:
        classifiers = [text for text in facts.get_all("Classifier") or () if text.startswith("License ::")]
        texts = [text.rpartition(" :: ")[2] for text in classifiers] or [facts.get("License") or ""]
    parts = [part.strip("() ") for text in texts for part in re.split(r"\bAND\b", text)]
    return [{SPELLINGS.get(name, name) for name in re.split(r"\s+OR\s+", part)} for part in parts]


def everything_required() -> Iterator[tuple[str, str | None]]:
    """Installed distributions that ``install_requires`` brings, each with the one that asks for it."""
    waiting: list[tuple[str, str | None]] = [(name, None) for name in required()]
    seen: set[str] = set()
    while waiting:
        name, asker = waiting.pop(0)  # ours first
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in seen:
            continue
        seen.add(key)
        try:
            lines = importlib.metadata.requires(name) or ()
        except importlib.metadata.PackageNotFoundError:
            assert asker is not None, f"{name} is not installed"
            continue
        yield key, asker
        requirements = map(Requirement, lines)
        waiting += [
            (each.name, key)
            for each in requirements
            if each.marker is None or each.marker.evaluate({"extra": ""})
        ]


def test_what_everybody_must_install_is_licensed_permissively() -> None:
    direct, below = set(), set()
    for name, asker in everything_required():
        (direct if asker is None else below).add(name)
        if asker is not None and PROPRIETARY.fullmatch(name):
            continue
        allowed = PERMISSIVE if asker is None else PERMISSIVE | OF_FILES
        for choice in conditions(importlib.metadata.metadata(name)):
            assert choice & allowed, f"{name}, which {asker or 'setup.cfg'} asks for: {choice}"
    assert {"numpy", "torch", "scikit-learn"} <= direct
    assert {"joblib", "sympy"} <= below  # of scikit-learn and torch


@pytest.mark.parametrize(
    ("field", "value", "permissive"),
    [
        ("License-Expression", "GPL-3.0-or-later", False),
        ("License-Expression", "MIT AND LGPL-2.1-only", False),
        ("License-Expression", "GPL-2.0-only OR MIT", True),
        ("Classifier", "License :: OSI Approved :: GNU General Public License v3 (GPLv3)", False),
        ("License", "GPLv3", False),
        ("License", "", False),
        ("License", "MIT", True),
    ],
)
def test_control_a_licence_that_is_not_on_the_list_is_seen(field: str, value: str, permissive: bool) -> None:
    facts = Message()
    facts[field] = value
    assert all(choice & PERMISSIVE for choice in conditions(facts)) is permissive


def test_the_oldest_versions_that_are_stated_are_those_that_are_tried() -> None:
    lines = (ROOT / ".ci" / "constraints-oldest.txt").read_text().splitlines()
    tried = dict(line.split("==") for line in lines if not line.startswith("#"))
    stated = {name: version for name, version in required().items() if name not in ("torch", "torchvision")}
    assert tried.keys() == stated.keys()
    for name, version in stated.items():
        assert re.fullmatch(rf"{re.escape(version)}(\.0)*", tried[name]), name
