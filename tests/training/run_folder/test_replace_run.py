"""--overwrite: another run in the folder is replaced, files of others and the same run are not."""

from __future__ import annotations

import shutil

import pytest

from pursuhint.errors import PursuhintError
from pursuhint.training import Recipe, train
from tests.helpers.image_folders import change_image, write_folder


def recipe(**changes):
    settings = {"student": "resnet8", "data": {"name": "digits", "train_samples": 60}, "epochs": 1}
    return Recipe.from_dict({**settings, **changes})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run that others replace, with what reports and exports leave in it."""
    folder = tmp_path_factory.mktemp("runs") / "old"
    train(recipe(), folder, device="cpu")
    for name in ("figures/a.svg", "bundle/model.onnx", "tensorboard/events", "report.html", "hints-at.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("{}")
    return folder


@pytest.fixture
def old(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "old")


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_another_run_takes_the_place_of_the_one_there(old, tmp_path):
    other = recipe(seed=1)
    with pytest.raises(PursuhintError, match=r"seed is 0 there and 1 here.*--overwrite"):
        train(other, old, device="cpu")
    replaced = train(other, old, device="cpu", overwrite=True)
    fresh = train(other, tmp_path / "fresh", device="cpu")
    assert {path.name for path in old.iterdir()} == {path.name for path in fresh.path.iterdir()}
    weights = [(run.path / "student.safetensors").read_bytes() for run in (replaced, fresh)]
    assert weights[0] == weights[1]
    assert len(replaced.metrics) == 1


def test_the_same_run_is_left_alone(old):
    before = content(old)
    train(recipe(), old, device="cpu", overwrite=True)
    assert content(old) == before


@pytest.mark.parametrize("name", ["notes.txt", "mine/letter.txt", "recipe.yml"])
def test_files_of_others_are_never_removed(name, old):
    (old / name).parent.mkdir(exist_ok=True)
    (old / name).write_text("dear")
    before = content(old)
    with pytest.raises(PursuhintError, match=r"which is not of a run; move it away"):
        train(recipe(seed=1), old, device="cpu", overwrite=True)
    assert content(old) == before


def test_nothing_is_removed_for_a_run_that_cannot_begin(old):
    before = content(old)
    with pytest.raises(PursuhintError, match="no checkpoint at"):
        train(recipe(student={"network": "resnet8", "checkpoint": "gone"}), old, device="cpu", overwrite=True)
    assert content(old) == before


def test_killed_while_it_removes_it_can_be_repeated(old, monkeypatch):
    def die(path):
        raise KeyboardInterrupt

    monkeypatch.setattr("pursuhint._util.replace_folder.shutil.rmtree", die)
    with pytest.raises(KeyboardInterrupt):
        train(recipe(seed=1), old, device="cpu", overwrite=True)
    monkeypatch.undo()
    assert (old / "recipe.yaml").exists()
    assert train(recipe(seed=1), old, device="cpu", overwrite=True).recipe.seed == 1


def test_a_run_on_data_that_have_changed_is_replaced(tmp_path):
    photos = write_folder(tmp_path / "photos")
    on_photos = recipe(data={"name": f"folder:{photos}"}, batch_size=8)
    train(on_photos, tmp_path / "run", device="cpu")
    described = (tmp_path / "run" / "environment.json").read_text()
    change_image(photos)
    replaced = train(on_photos, tmp_path / "run", device="cpu", overwrite=True)
    assert len(replaced.metrics) == 1
    assert not replaced.environment["resumed"]
    assert (tmp_path / "run" / "environment.json").read_text() != described
