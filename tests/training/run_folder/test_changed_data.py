"""A run, and the state of an analysis, know the data that they were made on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pursuhint.analysis import analyze
from pursuhint.data import load_folder
from pursuhint.errors import PursuhintError, PursuhintWarning
from pursuhint.models import create_model
from pursuhint.training import Recipe, RunRecord, train
from tests.helpers.image_folders import CHANGES, touch, write_folder
from tests.helpers.interrupted_runs import Interrupted


def recipe(folder: Path, **more: object) -> Recipe:
    values = {"student": "resnet8", "data": f"folder:{folder}", "epochs": 2, "batch_size": 9}
    return Recipe.from_dict({**values, "schedule": "constant", **more})


def interrupt(event: object) -> None:
    if type(event).__name__ == "EpochFinished":
        raise Interrupted


@pytest.fixture(scope="module")
def half_a_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with images, ``pets``, and a run of one epoch of two on them, ``run``."""
    place = tmp_path_factory.mktemp("half")
    write_folder(place / "pets")
    with pytest.raises(Interrupted):
        train(recipe(place / "pets"), place / "run", device="cpu", on_event=interrupt)
    return place


@pytest.fixture
def place(half_a_run: Path, tmp_path: Path) -> Path:
    """A copy of it. The recipe names the images of the original, so they are named anew."""
    shutil.copytree(half_a_run, tmp_path, dirs_exist_ok=True)
    text = (tmp_path / "run/recipe.yaml").read_text()
    (tmp_path / "run/recipe.yaml").write_text(text.replace(str(half_a_run), str(tmp_path)))
    return tmp_path


@pytest.mark.parametrize("change", CHANGES)
def test_an_interrupted_run_does_not_resume_on_changed_data(place, change):
    happen, words = CHANGES[change]
    happen(place / "pets")
    before = {path: path.read_bytes() for path in (place / "run").rglob("*") if path.is_file()}
    with pytest.raises(PursuhintError, match=f"holds a different run: .*pets has changed since: {words}"):
        train(recipe(place / "pets"), place / "run", device="cpu")
    assert {path: path.read_bytes() for path in (place / "run").rglob("*") if path.is_file()} == before


def test_it_resumes_on_images_that_were_only_touched(place):
    touch(place / "pets")
    record = train(recipe(place / "pets"), place / "run", device="cpu")
    assert record.finished
    assert len(record.environment["resumed"]) == 1
    assert record.environment["data"]["class_names"] == ["ant", "bee", "cat"]


def test_data_of_a_run_with_other_classes_are_not_loaded(place):
    CHANGES["class renamed"][0](place / "pets")
    with pytest.raises(PursuhintError, match=r"not what the run .* was trained on: the classes have changed"):
        RunRecord.load(place / "run").load_data()


@pytest.mark.parametrize("change", [None, *CHANGES])
def test_the_state_of_an_analysis_is_not_taken_up_on_changed_data(tmp_path, change):
    folder, done = write_folder(tmp_path / "pets"), []
    network = create_model("resnet8", num_classes=3, in_channels=3)

    def look(data, stop=False):
        def progress(count, total):
            done.append(count)
            if stop and count >= 8:
                raise Interrupted

        options = {"batch_size": 4, "save_every": 0, "stability": False, "device": "cpu"}
        return analyze(network, data, k=2, state=tmp_path / "state", on_progress=progress, **options)

    with pytest.raises(Interrupted):
        look(load_folder(folder), stop=True)
    done.clear()
    if change is None:
        touch(folder)
        look(load_folder(folder))
        assert done[0] == 4 or done[0] == 8  # the last state may be that of the batch before
        assert len(done) < 6
    else:
        CHANGES[change][0](folder)
        with pytest.warns(PursuhintWarning, match="is of another network, other data or other settings"):
            look(load_folder(folder))
        assert done[0] == 4
        assert len(done) == 5
