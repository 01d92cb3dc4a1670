"""A run that was interrupted, however rudely, equals one that never was."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.training import Recipe
from pursuhint.training.run_folder.fingerprint import check_same_run
from tests.helpers.interrupted_runs import assert_same, interrupt_at, train
from tests.helpers.processes import Process

LOCKER = """
import sys, time
from pathlib import Path
from pursuhint._util.folder_lock import lock_folder
from tests.helpers.processes import Process
with lock_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(100)
"""


@pytest.fixture(scope="module")
def recipe(distilled) -> Recipe:
    return distilled


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("RunStarted", 1),
        ("StepDone", 2),
        ("EpochFinished", 1),
        ("StepDone", 6),
        ("EpochFinished", 2),
        ("EpochFinished", 3),
    ],
)
def test_resumed_run_equals_the_uninterrupted_one(recipe, uninterrupted, tmp_path, kind, count):
    folder = tmp_path / "run"
    interrupt_at(recipe, folder, kind, count)
    events: list = []
    record = train(recipe, folder, on_event=events.append)
    assert_same(folder, uninterrupted)
    done = count if kind == "EpochFinished" else count // 4
    resumed = [event.epoch for event in events if type(event).__name__ == "Resumed"]
    assert resumed == ([done] if done else [])
    assert len(record.environment["resumed"]) == 1


@pytest.fixture(scope="module")
def of_two_epochs(recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("two") / "run"
    interrupt_at(recipe, folder, "EpochFinished", 2)
    return folder


class TestDamage:
    @pytest.fixture
    def two_epochs(self, of_two_epochs, tmp_path) -> Path:
        return shutil.copytree(of_two_epochs, tmp_path / "run")

    def resume(self, recipe, folder: Path):
        events: list = []
        train(recipe, folder, on_event=events.append)
        return next(event for event in events if type(event).__name__ == "Resumed")

    @pytest.mark.parametrize(
        "name", ["model.safetensors", "optimizer.bin", "best.safetensors", "progress.json"]
    )
    def test_truncated_state_falls_back_to_the_one_before(self, recipe, uninterrupted, two_epochs, name):
        newest = two_epochs / "state" / (two_epochs / "state" / "latest").read_text().strip()
        os.truncate(newest / name, (newest / name).stat().st_size // 2)
        resumed = self.resume(recipe, two_epochs)
        assert resumed.epoch == 1
        assert str(newest / name) in resumed.notice
        assert "went back to the state after epoch 1" in resumed.notice
        assert_same(two_epochs, uninterrupted)

    def test_a_flipped_bit_is_noticed(self, recipe, uninterrupted, two_epochs):
        newest = two_epochs / "state" / (two_epochs / "state" / "latest").read_text().strip()
        content = bytearray((newest / "model.safetensors").read_bytes())
        content[-5] ^= 1
        (newest / "model.safetensors").write_bytes(content)
        assert "model.safetensors is damaged" in self.resume(recipe, two_epochs).notice
        assert_same(two_epochs, uninterrupted)

    @pytest.mark.parametrize("latest", [None, "7"])
    def test_without_a_good_latest_the_newest_state_is_used(self, recipe, uninterrupted, two_epochs, latest):
        path = two_epochs / "state" / "latest"
        path.unlink() if latest is None else path.write_text(latest)
        resumed = self.resume(recipe, two_epochs)
        assert resumed.epoch == 2
        assert "latest is missing or damaged" in resumed.notice
        assert_same(two_epochs, uninterrupted)

    def test_when_every_state_is_damaged_it_says_so(self, recipe, two_epochs):
        for slot in "01":
            os.truncate(two_epochs / "state" / slot / "model.safetensors", 10)
        before = (two_epochs / "metrics.jsonl").read_text()
        with pytest.raises(PursuhintError, match=r"every state in .* is damaged .*; remove .*state to train"):
            train(recipe, two_epochs)
        assert (two_epochs / "metrics.jsonl").read_text() == before

    @pytest.mark.parametrize("tail", ['{"epoch": 3, "train_lo', '{"epoch": 3}\n', None])
    def test_metrics_are_cut_back_to_the_state(self, recipe, uninterrupted, two_epochs, tail):
        path = two_epochs / "metrics.jsonl"
        if tail is None:
            path.unlink()
        else:
            path.write_text(path.read_text() + tail)
        self.resume(recipe, two_epochs)
        assert_same(two_epochs, uninterrupted)

    def test_best_weights_are_brought_back_too(self, recipe, uninterrupted, two_epochs):
        (two_epochs / "best.safetensors").write_bytes(b"something else")
        self.resume(recipe, two_epochs)
        assert_same(two_epochs, uninterrupted)

    def test_leftovers_of_a_crash_while_saving_do_no_harm(self, recipe, uninterrupted, two_epochs):
        (two_epochs / "state" / "writing").mkdir()
        (two_epochs / "state" / "writing" / "model.safetensors").write_bytes(b"half")
        self.resume(recipe, two_epochs)
        assert_same(two_epochs, uninterrupted)

    def test_a_state_that_tries_to_run_code_does_not(self, recipe, two_epochs, tmp_path):
        class Harmful:
            def __reduce__(self):
                return (Path.touch, (tmp_path / "harmed",))

        for slot in "01":
            folder = two_epochs / "state" / slot
            torch.save({"state": Harmful()}, folder / "optimizer.bin")
            progress = json.loads((folder / "progress.json").read_text())
            content = (folder / "optimizer.bin").read_bytes()
            digest = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
            progress["files"]["optimizer.bin"] = digest
            (folder / "progress.json").write_text(json.dumps(progress))
        with pytest.raises(PursuhintError, match="cannot be loaded"):
            train(recipe, two_epochs)
        assert not (tmp_path / "harmed").exists()


class TestSameRun:
    @pytest.fixture
    def begun(self, recipe, tmp_path) -> Path:
        folder = tmp_path / "run"
        interrupt_at(recipe, folder, "EpochFinished", 1)
        return folder

    @pytest.mark.parametrize(
        ("assignments", "message"),
        [
            (
                ["optimizer.lr=0.1"],
                "a different run: optimizer.lr is 0.02 there and 0.1 here; choose another",
            ),
            (["seed=1"], "seed is 0 there and 1 here"),
            (
                ["losses.kd=0.5", "losses.kd.temperature=3"],
                "losses.kd.weight is 0.9 there and 0.5 here, losses.kd.",
            ),
            (["epochs=5"], "epochs is 3 there and 5 here; .*cannot be prolonged"),
            (["student=resnet14"], "student.network is 'resnet8' there"),
        ],
    )
    def test_a_different_recipe_is_refused(self, recipe, begun, assignments, message):
        before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
        with pytest.raises(PursuhintError, match=message):
            train(recipe.override(assignments), begun)
        assert {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()} == before

    def test_how_the_data_come_may_differ(self, recipe, tmp_path):
        recipe.save(tmp_path / "recipe.yaml")
        other = recipe.override(["data.workers=2", f"data.root={tmp_path}", "data.download=true"])
        assert check_same_run(tmp_path, other, {})
        with pytest.raises(PursuhintError, match=r"val_fraction is 0\.0 there and 0\.1 here"):
            check_same_run(tmp_path, recipe.override("data.val_fraction=0.1"), {})

    def test_another_checkpoint_under_the_same_name_is_refused(self, teacher_run, tmp_path, recipe):
        copy = tmp_path / "teacher.safetensors"
        copy.write_bytes((teacher_run / "best.safetensors").read_bytes())
        moved = recipe.override(f"teacher.checkpoint={copy}")
        interrupt_at(moved, tmp_path / "run", "EpochFinished", 1)
        content = bytearray(copy.read_bytes())
        content[-1] ^= 1
        copy.write_bytes(content)
        with pytest.raises(PursuhintError, match="a different run: the teacher has changed since"):
            train(moved, tmp_path / "run")

    def test_results_without_a_recipe_are_left_alone(self, recipe, tmp_path):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / "metrics.jsonl").write_text("precious")
        with pytest.raises(PursuhintError, match=r"holds results but no recipe.yaml"):
            train(recipe, tmp_path / "run")
        assert (tmp_path / "run" / "metrics.jsonl").read_text() == "precious"

    def test_another_process_in_the_folder_is_refused(self, recipe, tmp_path):
        folder = tmp_path / "run"
        folder.mkdir()
        with Process("-c", LOCKER, folder, stderr=2) as child:
            child.stdout.readline()
            with pytest.raises(PursuhintError, match=r"another run is writing .*; wait for it to end"):
                train(recipe, folder)
            assert [path.name for path in folder.iterdir()] == [".lock"]
            child.kill()
        train(recipe, folder)  # the lock has gone with its process

    def test_another_run_in_this_process_is_refused(self, recipe, tmp_path):
        def again(event) -> None:
            if type(event).__name__ == "EpochStarted":
                train(recipe, tmp_path / "run")

        with pytest.raises(PursuhintError, match="another run is writing"):
            train(recipe, tmp_path / "run", on_event=again)
