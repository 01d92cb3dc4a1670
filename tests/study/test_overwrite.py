"""--overwrite of studies replaces another one in the folder, not the same one, and no files of others."""

from __future__ import annotations

import shutil

import pytest

from pursuhint._util.folder_lock import lock_folder
from pursuhint.errors import PursuhintError
from pursuhint.study import compare, compare_methods
from tests.helpers.study_runs import recipe

ARMS = ("alone", "kd", "even")


@pytest.fixture(scope="module")
def finished(data, weights, tmp_path_factory):
    out = tmp_path_factory.mktemp("study") / "out"
    compare(recipe(weights), out, arms=ARMS, seeds=(0, 1), data=data, device="cpu")
    (out / "figures").mkdir()
    (out / "figures" / "a.svg").write_text("a picture of a report")
    return out


@pytest.fixture
def old(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "old")


def content(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def again(out, data, weights, **changes):
    values = {"arms": ARMS, "seeds": (0, 1), "overwrite": True, **changes}
    return compare(recipe(weights, batch_size=32), out, **values, data=data, device="cpu")


def test_another_comparison_takes_the_place_of_the_one_there(old, data, weights):
    with pytest.raises(PursuhintError, match=r"batch_size is 64 there and 32 here.*--overwrite"):
        again(old, data, weights, overwrite=False)
    result = again(old, data, weights, arms=("alone", "even"), seeds=(3,))
    assert (result.recipe["batch_size"], result.seeds) == (32, (3,))
    assert {path.name for path in (old / "arms").rglob("seed-*")} == {"seed-3"}
    assert not (old / "arms" / "kd").exists()
    assert not (old / "figures").exists()


def test_the_same_one_is_left_alone_and_may_become_more(old, data, weights):
    before = content(old / "arms")
    compare(recipe(weights), old, arms=ARMS, seeds=(0, 1), data=data, device="cpu", overwrite=True)
    assert content(old / "arms") == before
    assert (old / "figures" / "a.svg").exists()


@pytest.mark.parametrize("name", ["notes.txt", "arms/kd/seed-0/notes.txt", "copies/report.html"])
def test_files_of_others_are_never_removed(name, old, data, weights):
    (old / name).parent.mkdir(exist_ok=True)
    (old / name).write_text("dear")
    before = content(old)
    with pytest.raises(PursuhintError, match=r"which is not of a comparison; move it away"):
        again(old, data, weights)
    assert content(old) == before


def test_nothing_is_removed_while_one_of_its_runs_is_written_or_for_a_study_that_cannot_begin(
    old, data, weights
):
    before = content(old)
    with lock_folder(old / "arms/kd/seed-0"), pytest.raises(PursuhintError, match="another run is writing"):
        again(old, data, weights)
    with pytest.raises(PursuhintError, match="no loss of the recipe looks at hint points"):
        compare(recipe(weights, losses={"kd": 1}), old, arms=ARMS, data=data, device="cpu", overwrite=True)
    assert content(old) == before
    with pytest.raises(PursuhintError, match="study of another kind"):
        methods(old, data, weights)
    assert content(old) == before


def methods(out, data, weights, **changes):
    plain = recipe(weights, losses={}, **changes)
    return compare_methods(
        plain, out, methods=["kd"], seeds=(0,), data=data, device="cpu", overwrite=bool(changes)
    )


def test_a_study_of_methods_is_replaced_with_what_it_knew_of_other_networks(data, weights, tmp_path):
    first = methods(tmp_path / "m", data, weights)
    (first.path / "memory.json").write_text('{"alone": 1, "kd": 1}')
    second = methods(first.path, data, weights, batch_size=32)
    assert second.recipe["batch_size"] == 32
    assert second.methods[0].memory != 1
