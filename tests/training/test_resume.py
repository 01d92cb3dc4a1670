"""A run that was interrupted, however rudely, equals one that never was."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pursuhint.data import ImageData, load_dataset
from pursuhint.errors import PursuhintError
from pursuhint.training import Recipe
from pursuhint.training import train as train_on
from pursuhint.training.identity import check_same_run


def few_digits() -> ImageData:
    """Some digits, for runs of a second."""
    digits = load_dataset("digits")
    splits = digits.train.select(torch.arange(200)), digits.test.select(torch.arange(100))
    train, test = [(split.images, split.labels) for split in splits]
    return ImageData.from_tensors("few digits", train=train, test=test)


def train(recipe: Recipe, folder: Path, **arguments):
    return train_on(recipe, folder, device="cpu", data=few_digits(), **arguments)


CHILD = """
import sys
import torch
sys.path.insert(0, sys.argv[1])
torch.set_num_threads(1)
import test_resume
def say(event):
    print(type(event).__name__, flush=True)
test_resume.train(test_resume.Recipe.load(sys.argv[2]), sys.argv[3], on_event=say)
"""


@pytest.fixture(scope="module")
def recipe(teacher_run) -> Recipe:
    return Recipe.from_dict(
        {
            "student": "resnet8",
            "teacher": {"network": "resnet8", "checkpoint": str(teacher_run / "student.safetensors")},
            "losses": {"vid": 1, "kd": 0.9},  # VID learns, so that more than the student must be restored
            "optimizer": {"lr": 0.02},
            "schedule": "one-cycle",
            "epochs": 3,
            "batch_size": 64,
        }
    )


@pytest.fixture(scope="module")
def uninterrupted(recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("uninterrupted") / "run"
    train(recipe, folder)
    return folder


def without_wall_times(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "samples_per_second")}
        for line in lines
    ]


def assert_same(folder: Path, uninterrupted: Path) -> None:
    assert without_wall_times(folder) == without_wall_times(uninterrupted)
    for name in ("student.safetensors", "best.safetensors"):
        assert (folder / name).read_bytes() == (uninterrupted / name).read_bytes()
    for name in ("hints.json", "recipe.yaml"):
        assert (folder / name).read_text() == (uninterrupted / name).read_text()
    assert (folder / "result.json").exists()
    assert not list(folder.rglob("*.tmp"))


LOCKER = """
import sys, time
from pathlib import Path
from pursuhint.training.state import lock_folder
with lock_folder(Path(sys.argv[1])):
    print("locked", flush=True)
    time.sleep(100)
"""


class Interrupted(BaseException):
    """Not an Exception, as KeyboardInterrupt is not."""


def interrupt_at(recipe: Recipe, folder: Path, kind: str, count: int) -> None:
    """Stop a run when an event of a kind comes for the n-th time."""
    seen = 0

    def watch(event) -> None:
        nonlocal seen
        seen += type(event).__name__ == kind
        if seen == count:
            raise Interrupted

    with pytest.raises(Interrupted):
        train(recipe, folder, on_event=watch)


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


@pytest.mark.parametrize("kind", [signal.SIGKILL, signal.SIGTERM])
def test_real_kills_at_random_moments(recipe, uninterrupted, tmp_path, kind):
    """A real process, really killed: in an epoch, while saving, while starting, wherever it hits."""
    recipe.save(tmp_path / "recipe.yaml")
    folder = tmp_path / "run"
    command = [
        sys.executable,
        "-c",
        CHILD,
        str(Path(__file__).parent),
        str(tmp_path / "recipe.yaml"),
        str(folder),
    ]
    moment, delay = random.SystemRandom().randrange(1, 20), random.SystemRandom().uniform(0, 0.05)
    print(f"killed {delay} seconds after event {moment}")  # shown when the test fails
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        for _ in range(moment):
            child.stdout.readline()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(delay)
        child.send_signal(kind)
    assert child.returncode == -kind
    train(recipe, folder)
    assert_same(folder, uninterrupted)


class TestDamage:
    @pytest.fixture
    def two_epochs(self, recipe, tmp_path) -> Path:
        folder = tmp_path / "run"
        interrupt_at(recipe, folder, "EpochFinished", 2)
        return folder

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


class TestFullDisk:
    """Every write and every rename of an epoch's end fails once; nothing good is lost."""

    @pytest.mark.parametrize(
        ("function", "call"),
        [
            ("fsync", 0),
            ("fsync", 2),
            ("fsync", 6),
            ("rename", 0),
            ("replace", 0),
            ("replace", 1),
            ("replace", 2),
        ],
    )
    def test_failing_system_calls(self, recipe, uninterrupted, tmp_path, monkeypatch, function, call):
        folder, calls, real = tmp_path / "run", 0, getattr(os, function)

        def fail(*arguments, **keywords):
            nonlocal calls
            calls += 1
            if calls > call:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return real(*arguments, **keywords)

        def watch(event) -> None:
            if type(event).__name__ == "EpochStarted" and event.epoch == 2:
                monkeypatch.setattr(os, function, fail)

        with pytest.raises(PursuhintError, match="No space left on device") as caught:
            train(recipe, folder, on_event=watch)
        assert "\n" not in str(caught.value)
        monkeypatch.undo()
        train(recipe, folder)
        assert_same(folder, uninterrupted)

    @pytest.mark.parametrize("writer", ["torch.save", "accelerate.utils.other.safe_save_file"])
    def test_failing_writers(self, recipe, uninterrupted, tmp_path, monkeypatch, writer):
        def fail(*arguments, **keywords):
            # What torch raises when the disk is full is a RuntimeError
            raise RuntimeError(
                "[enforce fail at inline_container.cc:820]\n. PytorchStreamWriter failed writing"
            )

        def watch(event) -> None:
            if type(event).__name__ == "EpochStarted" and event.epoch == 2:
                monkeypatch.setattr(writer, fail)

        with pytest.raises(PursuhintError, match=r"save the state after epoch 2 into .*failed writing"):
            train(recipe, tmp_path / "run", on_event=watch)
        monkeypatch.undo()
        assert not (tmp_path / "run" / "state" / "writing").exists()
        train(recipe, tmp_path / "run")
        assert_same(tmp_path / "run", uninterrupted)

    def test_a_folder_deleted_while_training_is_one_clear_line(self, recipe, tmp_path):
        def watch(event) -> None:
            if type(event).__name__ == "EpochStarted" and event.epoch == 2:
                shutil.rmtree(tmp_path / "run")
                (tmp_path / "run").touch()  # nothing can be made there again

        with pytest.raises(PursuhintError, match="cannot save the state after epoch 2"):
            train(recipe, tmp_path / "run", on_event=watch)


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
        command = [sys.executable, "-c", LOCKER, str(folder)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
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
