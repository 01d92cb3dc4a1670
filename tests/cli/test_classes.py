"""The classes of a run stay those that it was trained on: evaluate, export, studies."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.image_folders import CHANGES, exchange_classes, write_folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``pets``, images in three classes, and ``run``, trained on them."""
    from pursuhint.training import Recipe, train

    place = tmp_path_factory.mktemp("trained")
    write_folder(place / "pets", count=12)
    values = {"student": "resnet8", "data": f"folder:{place / 'pets'}", "epochs": 12, "batch_size": 12}
    train(Recipe.from_dict({**values, "schedule": "one-cycle"}), place / "run", device="cpu")
    return place


@pytest.fixture
def place(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    text = (tmp_path / "run/recipe.yaml").read_text()
    (tmp_path / "run/recipe.yaml").write_text(text.replace(str(trained), str(tmp_path)))
    return tmp_path


def accuracy(pursuhint, *arguments):
    done = pursuhint("evaluate", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["top1"], done.stderr


def rename(folder: Path, old: str, new: str) -> None:
    for part in ("train", "val"):
        (folder / part / old).rename(folder / part / new)


def test_a_renamed_class_is_refused_by_name(pursuhint, place):
    before, said = accuracy(pursuhint, place / "run")
    assert said == ""
    assert before > 60
    rename(place / "pets", "cat", "a-cat")  # which would be class 0
    done = pursuhint("evaluate", place / "run")
    assert done.returncode == 1
    assert "the classes have changed: 'cat' is gone, 'a-cat' is new" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(("add", "words"), [(True, "'bat' is new"), (False, "'bee' is gone")])
def test_an_added_or_removed_class_is_refused(pursuhint, place, add, words):
    for part in ("train", "val"):
        if add:
            shutil.copytree(place / "pets" / part / "ant", place / "pets" / part / "bat")
        else:
            shutil.rmtree(place / "pets" / part / "bee")
    done = pursuhint("evaluate", place / "run")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert words in done.stderr


@pytest.mark.filterwarnings("default")
def test_exchanged_classes_are_said(pursuhint, place):
    exchange_classes(place / "pets")
    _, said = accuracy(pursuhint, place / "run")
    assert "since the training" in said
    assert "the test split has" in said


@pytest.mark.filterwarnings("default")
def test_other_data_with_some_of_the_classes_are_matched_by_name(pursuhint, place):
    whole, _ = accuracy(pursuhint, place / "run")
    other = shutil.copytree(place / "pets", place / "fewer")
    for part in ("train", "val"):
        shutil.rmtree(other / part / "ant")
    few, said = accuracy(pursuhint, place / "run", "--data", f"folder:{other}")
    assert "were matched with those of the run by name: 2 of 3" in said
    assert few > 50  # by number, both classes would be wrong
    assert whole > 60
    rename(other, "cat", "dog")
    done = pursuhint("evaluate", place / "run", "--data", f"folder:{other}")
    assert done.returncode == 1
    assert "'dog' is none of its classes" in done.stderr


def test_exports_name_the_classes_in_their_order(pursuhint, place):
    from safetensors import safe_open

    assert pursuhint("export", place / "run", "--format", "safetensors", "--out", place / "s").returncode == 0
    with safe_open(place / "s", "pt") as file:
        assert json.loads(file.metadata()["class_names"]) == ["ant", "bee", "cat"]


@pytest.mark.parametrize("change", ["class renamed", "changed"])
def test_a_comparison_does_not_go_on_with_changed_data(pursuhint, place, change):
    options = (
        "--data", f"folder:{place / 'pets'}", "--teacher", "resnet8", "--student", "resnet8",
        "--teacher-checkpoint", place / "run/student.safetensors", "--loss", "at", "--epochs", "1",
        "--seeds", "0", "--arm", "alone", "--arm", "conventional", "--batch-size", "12", "--out",
        place / "study", "--quiet",
    )  # fmt: skip
    assert pursuhint("compare", *options).returncode == 0
    happen, words = CHANGES[change]
    happen(place / "pets")
    done = pursuhint("compare", *options)
    assert done.returncode == 1
    assert words in done.stderr
