"""A trained teacher and a tiny recipe, made once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pursuhint.training import Recipe, train
from tests.helpers.interrupted_runs import train as train_few_digits


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    """Bit-identical results need a fixed number of threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def teacher_run(tmp_path_factory: pytest.TempPathFactory, one_thread: None) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "run"
    recipe = Recipe.from_dict(
        {"student": "resnet8", "data": "digits", "epochs": 3, "batch_size": 64, "schedule": "one-cycle"}
    )
    train(recipe, folder, device="cpu")
    return folder


@pytest.fixture
def make_recipe(teacher_run: Path) -> Callable[..., Recipe]:
    """A recipe for seconds, with changes."""

    def make(**changes: Any) -> Recipe:
        values: dict[str, Any] = {
            "student": "resnet8",
            "teacher": {"network": "resnet8", "checkpoint": str(teacher_run / "student.safetensors")},
            "data": "digits",
            "losses": {"at": 10, "kd": 0.9},
            "optimizer": {"lr": 0.05},
            "schedule": {"kind": "step", "milestones": [2]},
            "epochs": 3,
            "batch_size": 128,
        }
        return Recipe.from_dict({**values, **changes})

    return make


@pytest.fixture
def alone() -> Recipe:
    """A student without a teacher, two short epochs."""
    return Recipe.from_dict(
        {"student": "resnet8", "data": "digits", "epochs": 2, "batch_size": 256, "schedule": "constant"}
    )


@pytest.fixture(scope="session")
def distilled(teacher_run: Path) -> Recipe:
    """Three epochs of four steps on a few digits; VID learns, so more than the student must be restored."""
    return Recipe.from_dict(
        {
            "student": "resnet8",
            "teacher": {"network": "resnet8", "checkpoint": str(teacher_run / "student.safetensors")},
            "losses": {"vid": 1, "kd": 0.9},
            "optimizer": {"lr": 0.02},
            "schedule": "one-cycle",
            "epochs": 3,
            "batch_size": 64,
        }
    )


@pytest.fixture(scope="session")
def uninterrupted(distilled: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of `distilled`, never stopped."""
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    train_few_digits(distilled, folder)
    return folder
