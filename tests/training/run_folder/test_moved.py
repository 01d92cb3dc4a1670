"""A stored recipe has absolute paths, and a checkpoint is known by its content wherever it lies."""

from __future__ import annotations

import contextlib
import json
import shutil
from pathlib import Path

import pytest

from pursuhint.errors import PursuhintError
from pursuhint.training import Recipe
from pursuhint.training import train as train_on_its_data
from pursuhint.training.recipe.resolve import resolve_recipe
from tests.helpers.image_folders import CHANGES, write_folder
from tests.helpers.interrupted_runs import Interrupted, assert_same, interrupt_at, train


@pytest.fixture
def relative(distilled, teacher_run, tmp_path, monkeypatch) -> Recipe:
    """The recipe with its teacher as a relative path, in the working folder of the test."""
    monkeypatch.chdir(tmp_path)
    Path("weights").mkdir()
    shutil.copy(teacher_run / "student.safetensors", "weights/teacher.safetensors")
    return distilled.override("teacher.checkpoint=weights/teacher.safetensors")


def test_paths_of_a_stored_recipe_are_absolute(relative, tmp_path):
    interrupt_at(relative, tmp_path / "run", "RunStarted", 1)
    stored = Recipe.read(tmp_path / "run" / "recipe.yaml")
    assert stored.teacher is not None
    assert stored.teacher.checkpoint == str(tmp_path / "weights" / "teacher.safetensors")


def test_data_and_student_become_absolute_and_other_names_stay(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    typed = Recipe.from_dict(
        {
            "student": {"network": "resnet8", "checkpoint": "s.pth"},
            "data": {"name": "folder:photos", "root": "../data"},
        }
    )
    resolved = resolve_recipe(typed)
    assert resolved.student.checkpoint == str(tmp_path / "s.pth")
    assert resolved.data.name == f"folder:{tmp_path / 'photos'}"
    assert resolved.data.root == str(tmp_path / ".." / "data")
    assert resolve_recipe(resolved) == resolved
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    home = resolve_recipe(typed.override(["data.name=folder:~/photos", "data.root=~/data"]))
    assert (home.data.name, home.data.root) == (f"folder:{tmp_path}/home/photos", f"{tmp_path}/home/data")
    named = resolve_recipe(Recipe.from_dict({"student": "resnet8", "data": "cifar10"}))
    assert (named.data.name, named.data.root, named.student.checkpoint) == ("cifar10", None, None)


def test_a_run_moved_with_its_checkpoint_resumes(relative, uninterrupted, tmp_path, monkeypatch):
    interrupt_at(relative, Path("run"), "EpochFinished", 1)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for name in ("run", "weights"):
        shutil.move(tmp_path / name, elsewhere / name)
    monkeypatch.chdir(elsewhere)
    events: list = []
    train(relative, Path("run"), on_event=events.append)
    assert [event.epoch for event in events if type(event).__name__ == "Resumed"] == [1]
    moved, before = (Recipe.read(folder / "recipe.yaml").to_dict() for folder in (Path("run"), uninterrupted))
    assert moved.pop("teacher")["network"] == before.pop("teacher")["network"]
    assert moved == before
    shutil.copy(uninterrupted / "recipe.yaml", "run/recipe.yaml")  # the rest is the same, to the last bit
    assert_same(Path("run"), uninterrupted)


def test_another_checkpoint_at_another_place_is_another_run(relative, tmp_path):
    interrupt_at(relative, tmp_path / "run", "EpochFinished", 1)
    content = bytearray(Path("weights/teacher.safetensors").read_bytes())
    content[-1] ^= 1
    Path("other.safetensors").write_bytes(content)
    with pytest.raises(PursuhintError, match="the teacher has changed since"):
        train(relative.override("teacher.checkpoint=other.safetensors"), tmp_path / "run")


def test_without_a_known_hash_the_path_counts(relative, tmp_path):
    interrupt_at(relative, tmp_path / "run", "EpochFinished", 1)
    path = tmp_path / "run" / "environment.json"
    values = json.loads(path.read_text())
    path.write_text(json.dumps({**values, "inputs": {}}))
    shutil.copy("weights/teacher.safetensors", "copy.safetensors")
    with pytest.raises(PursuhintError, match=r"teacher\.checkpoint is"):
        train(relative.override("teacher.checkpoint=copy.safetensors"), tmp_path / "run")


@pytest.mark.parametrize("epochs", [1, 2])  # of two: interrupted, and finished
def test_a_folder_of_images_may_have_moved_if_it_holds_the_same(tmp_path, epochs):
    write_folder(tmp_path / "pets")

    def recipe(folder: Path) -> Recipe:
        values = {"student": "resnet8", "data": f"folder:{folder}", "epochs": 2, "batch_size": 9}
        return Recipe.from_dict({**values, "schedule": "constant"})

    def stop(event: object) -> None:
        if epochs == 1 and type(event).__name__ == "EpochFinished":
            raise Interrupted

    with contextlib.suppress(Interrupted):
        train_on_its_data(recipe(tmp_path / "pets"), tmp_path / "run", device="cpu", on_event=stop)
    (tmp_path / "pets").rename(tmp_path / "moved")
    shutil.copytree(tmp_path / "moved", tmp_path / "other")
    CHANGES["changed"][0](tmp_path / "other")
    with pytest.raises(PursuhintError, match="has changed images"):
        train_on_its_data(recipe(tmp_path / "other"), tmp_path / "run", device="cpu")
    assert train_on_its_data(recipe(tmp_path / "moved"), tmp_path / "run", device="cpu").finished
