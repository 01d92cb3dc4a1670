"""Runs of a second that are interrupted, and what they are compared with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from pursuhint.data import ImageData, load_dataset
from pursuhint.training import Recipe
from pursuhint.training import train as train_on
from tests.helpers.processes import Process


def few_digits() -> ImageData:
    """Some digits, for runs of a second."""
    digits = load_dataset("digits")
    splits = digits.train.select(torch.arange(200)), digits.test.select(torch.arange(100))
    train, test = [(split.images, split.labels) for split in splits]
    return ImageData.from_tensors("few digits", train=train, test=test)


def train(recipe: Recipe, folder: Path, **arguments: Any) -> Any:
    """Train on a few digits."""
    return train_on(recipe, folder, device="cpu", data=few_digits(), **arguments)


class Interrupted(BaseException):
    """Not an Exception, as KeyboardInterrupt is not."""


def interrupt_at(recipe: Recipe, folder: Path, kind: str, count: int, **arguments: Any) -> None:
    """Stop a run when an event of a kind comes for the n-th time."""
    seen = 0

    def watch(event: Any) -> None:
        nonlocal seen
        seen += type(event).__name__ == kind
        if seen == count:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(recipe, folder, on_event=watch, **arguments)


def without_wall_times(folder: Path) -> list[dict[str, Any]]:
    """Lines of ``metrics.jsonl``, as far as they can be alike."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "samples_per_second")}
        for line in lines
    ]


def hints_of(folder: Path) -> dict[str, Any]:
    """The content of ``hints.json`` without the command and the time that it comes from."""
    values: dict[str, Any] = json.loads((folder / "hints.json").read_text())
    return {key: value for key, value in values.items() if key != "provenance"}


def recipe_of(folder: Path) -> Recipe:
    """What a run did, apart from when it saved and who watched."""
    return Recipe.load(folder / "recipe.yaml").model_copy(update={"save_every_steps": 0, "trackers": ()})


def assert_same(folder: Path, uninterrupted: Path) -> None:
    """Both runs ended alike, to the last bit."""
    assert without_wall_times(folder) == without_wall_times(uninterrupted)
    for name in ("student.safetensors", "best.safetensors"):
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes()
    if (uninterrupted / "hints.json").exists():
        assert hints_of(folder) == hints_of(uninterrupted)
    assert recipe_of(folder) == recipe_of(uninterrupted)
    assert (folder / "result.json").exists()
    assert not list(folder.rglob("*.tmp"))


_CHILD = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
from tests.helpers import interrupted_runs
def say(event):
    print(type(event).__name__, flush=True)
interrupted_runs.train(interrupted_runs.Recipe.load(sys.argv[2]), sys.argv[3], on_event=say)
"""


def start(recipe: Recipe, folder: Path) -> Process:
    """Train in a process of its own, which says every event in a line."""
    file = folder.with_suffix(".yaml")
    recipe.save(file)
    return Process("-c", _CHILD, Path(__file__).parents[2], file, folder, stderr=2)
