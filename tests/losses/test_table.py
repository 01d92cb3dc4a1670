"""A loss is found by its name: an entry of the table, a file, a test of its own."""

from __future__ import annotations

from pathlib import Path

import pursuhint.losses
from pursuhint.losses import LOSSES

FILES = Path(pursuhint.losses.__file__).parent
TESTS = Path(__file__).parent
FOUNDATION = {"__init__", "base", "checks", "context", "info", "passed"}
PARTS = {
    "refilled_stage1": "refilled",
    "refilled_stage2": "refilled",
}  # inside another


def names_of_files() -> set[str]:
    return {path.stem for path in FILES.glob("*.py")} - FOUNDATION


def test_every_file_is_a_loss_of_the_table_and_every_loss_a_file():
    in_the_table = {name.replace("-", "_") for name in LOSSES}
    assert names_of_files() - set(PARTS) == in_the_table
    assert set(PARTS) <= names_of_files()
    assert set(PARTS.values()) <= in_the_table


def test_the_table_finds_a_loss_in_the_file_of_its_name():
    for name, place in LOSSES.items():
        assert place.startswith(f"pursuhint.losses.{name.replace('-', '_')}:")


def test_every_loss_has_a_test_of_its_own():
    without = {name for name in LOSSES if not (TESTS / f"test_{name.replace('-', '_')}.py").exists()}
    assert not without
