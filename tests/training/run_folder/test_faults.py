"""Whatever happens to a run, what it has saved stays good, and it goes on as if nothing had happened."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import re
import shutil
import signal
import subprocess
import threading
from collections import Counter
from pathlib import Path

import pytest

from pursuhint._util.atomic_files import watch_writes
from pursuhint.errors import PursuhintError
from pursuhint.training.run_folder.checkpoints import StateStore
from pursuhint.training.signals import RunStopped, StopRequest, catch_signals, share_stop
from tests.helpers.interrupted_runs import assert_same, interrupt_at, start, train


@pytest.fixture(scope="module")
def recipe(distilled):
    """Saves in the middle of an epoch too."""
    return distilled.model_copy(update={"save_every_steps": 1})


def names(events) -> list[str]:
    return [type(event).__name__ for event in events]


class TestMidEpoch:
    """Twelve steps in three epochs."""

    @pytest.mark.parametrize("steps", [1, 3, 6])
    def test_goes_on_after_the_step_that_was_saved_last(self, recipe, uninterrupted, tmp_path, steps):
        interrupt_at(recipe, tmp_path / "run", "StepDone", steps + 1)  # which is told before it is saved
        events: list = []
        train(recipe, tmp_path / "run", on_event=events.append)
        assert_same(tmp_path / "run", uninterrupted)
        (resumed,) = [event for event in events if type(event).__name__ == "Resumed"]
        assert (resumed.epoch, resumed.step) == divmod(steps, 4)
        assert names(events).count("StepDone") == 12 - steps

    def test_saves_every_so_many_steps(self, recipe, tmp_path):
        interrupt_at(recipe.model_copy(update={"save_every_steps": 2}), tmp_path / "run", "StepDone", 4)
        events: list = []
        train(recipe, tmp_path / "run", on_event=events.append)
        assert next(event.step for event in events if type(event).__name__ == "Resumed") == 2

    @pytest.mark.parametrize("steps", [2, 5])
    def test_banks_and_stages(self, recipe, tmp_path, steps):
        """A memory bank, and a hint that is learnt first: in that stage, and in the one after it."""
        losses = {"crd": {"weight": 0.8}, "fitnet": {"weight": 1, "two_stages": True, "warm_up_epochs": 1}}
        both = recipe.model_copy(update={"epochs": 1}).override([f"losses={json.dumps(losses)}"])
        train(both, tmp_path / "whole")
        interrupt_at(both, tmp_path / "run", "StepDone", steps)
        train(both, tmp_path / "run")
        assert_same(tmp_path / "run", tmp_path / "whole")

    def test_a_damaged_state_falls_back_to_the_step_before(self, recipe, uninterrupted, tmp_path):
        folder = tmp_path / "run"
        interrupt_at(recipe, folder, "StepDone", 7)
        newest = folder / "state" / (folder / "state" / "latest").read_text().strip()
        os.truncate(newest / "epoch-0.json", 5)
        events: list = []
        train(recipe, folder, on_event=events.append)
        (resumed,) = [event for event in events if type(event).__name__ == "Resumed"]
        assert (resumed.epoch, resumed.step) == (1, 1)
        assert "went back to the state after step 1 of epoch 2" in resumed.notice
        assert_same(folder, uninterrupted)


class TestSignals:
    @pytest.fixture(autouse=True)
    def _as_in_a_terminal(self):
        """A shell lets what it starts in the background ignore SIGINT, nohup SIGHUP, this process too."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        hung_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)
        yield
        signal.signal(signal.SIGINT, before)
        signal.signal(signal.SIGHUP, hung_up)

    @pytest.mark.parametrize(
        ("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)]
    )
    def test_saves_the_step_and_stops(self, distilled, uninterrupted, tmp_path, number, status):
        steps = 0

        def watch(event) -> None:
            nonlocal steps
            steps += type(event).__name__ == "StepDone"
            if steps == 6:
                os.kill(os.getpid(), number)

        with pytest.raises(RunStopped) as stopped:
            train(distilled, tmp_path / "run", on_event=watch)
        assert stopped.value.code == status
        name = signal.Signals(number).name
        assert str(stopped.value).startswith(f"stopped by {name} after step 2 of 4 of epoch 2; everything is")
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        events: list = []
        train(distilled, tmp_path / "run", on_event=events.append)
        assert names(events).count("StepDone") == 6
        assert_same(tmp_path / "run", uninterrupted)

    def test_at_the_end_of_an_epoch(self, distilled, uninterrupted, tmp_path):
        def watch(event) -> None:
            if type(event).__name__ == "EpochFinished" and event.metrics["epoch"] in (2, 3):
                os.kill(os.getpid(), signal.SIGTERM)

        with pytest.raises(RunStopped, match="after epoch 2 of 3; everything"):
            train(distilled, tmp_path / "run", on_event=watch)
        train(distilled, tmp_path / "run", on_event=watch)  # at its very end a run simply ends
        assert_same(tmp_path / "run", uninterrupted)

    def test_at_the_very_end_of_a_run_the_next_one_does_not_begin(self, distilled, uninterrupted, tmp_path):
        def watch(event) -> None:
            if type(event).__name__ == "EpochFinished" and event.metrics["epoch"] == 3:
                os.kill(os.getpid(), signal.SIGTERM)

        with share_stop():
            train(distilled, tmp_path / "run", on_event=watch)
            assert_same(tmp_path / "run", uninterrupted)
            with share_stop(), pytest.raises(RunStopped) as stopped:  # a study within another one
                train(distilled, tmp_path / "next")
        assert stopped.value.code == 143
        assert not (tmp_path / "next").exists()
        assert train(distilled, tmp_path / "run").last  # outside of the block nobody has asked

    def test_a_real_process_ends_as_signals_end_it(self, distilled, uninterrupted, tmp_path):
        with start(distilled, tmp_path / "run") as child:
            while child.stdout.readline().strip() != "StepDone":
                pass
            child.send_signal(signal.SIGTERM)
            said = child.stdout.read().split()
        assert child.returncode == 143
        assert said.count("StepDone") < 11
        train(distilled, tmp_path / "run")
        assert_same(tmp_path / "run", uninterrupted)

    def test_a_second_interrupt_counts_when_it_is_not_an_echo(self, monkeypatch):
        now = 0.0
        monkeypatch.setattr("pursuhint.training.signals.time.monotonic", lambda: now)
        request = StopRequest()
        with catch_signals(request):
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)
            assert request.signal == signal.SIGINT
            now = 60.0
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)

    def test_handlers_of_others_are_left_alone(self):
        request, heard = StopRequest(), []
        before = signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
        try:
            with catch_signals(request):
                os.kill(os.getpid(), signal.SIGTERM)
        finally:
            signal.signal(signal.SIGTERM, before)
        assert heard == [signal.SIGTERM]
        assert request.signal is None

    def test_training_in_a_thread_catches_nothing(self):
        def work() -> None:
            with catch_signals(StopRequest()):
                assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
                done.append(True)

        done: list[bool] = []
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert done


def test_three_real_kills_at_random_moments(recipe, uninterrupted, tmp_path):
    """A real process, really killed: in an epoch, while saving, while starting, wherever it hits."""
    folder = tmp_path / "run"
    for _ in range(3):
        moment, delay = random.SystemRandom().randrange(1, 9), random.SystemRandom().uniform(0, 0.05)
        print(f"killed {delay} seconds after event {moment}")  # shown when the test fails
        with start(recipe, folder) as child:
            for _ in range(moment):
                child.stdout.readline()
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(delay)
            child.kill()
        assert child.returncode == -signal.SIGKILL
    train(recipe, folder)
    assert_same(folder, uninterrupted)


class FaultyDisk:
    """Lets every write of a run fail once: those with the same name at the same place in an epoch are one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.failed: list[tuple[str, str, int]] = []

    def next_failure(self, recipe) -> str | None:
        """Train until a write fails that has not failed before: the message. None if the run has ended."""
        self.begin("start")
        with watch_writes(self.fail):
            try:
                train(recipe, self.folder, on_event=self.watch)
            except PursuhintError as error:
                return str(error)
        return None

    def begin(self, moment: str) -> None:
        self.moment = moment
        self.seen: Counter[str] = Counter()

    def watch(self, event) -> None:
        if type(event).__name__ in ("EpochStarted", "StepDone", "EpochFinished"):
            self.begin(f"{type(event).__name__} {getattr(event, 'step', '')}")

    def fail(self, path: Path) -> None:
        name = re.sub(r"\.[a-z0-9_]{8}\.pursuhint\.tmp$", ".tmp", str(path.relative_to(self.folder)))
        name = re.sub(r"^state/[01]", "state/slot", name)
        self.seen[name] += 1
        point = (self.moment, name, self.seen[name])
        if point not in self.failed:
            self.failed.append(point)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class TestFailingWrites:
    def test_every_write_fails_once_and_nothing_good_is_lost(self, distilled, tmp_path):
        """One failure a call, the next call at the next point that has not failed yet, until none is left."""
        recipe = distilled.model_copy(update={"save_every_steps": 3, "epochs": 2})
        train(recipe, tmp_path / "uninterrupted")
        folder, disk, good = tmp_path / "run", FaultyDisk(tmp_path / "run"), 0
        while message := disk.next_failure(recipe):
            assert "No space left on device" in message
            assert "\n" not in message
            good += StateStore(folder / "state").load() is not None
        assert_same(folder, tmp_path / "uninterrupted")
        assert len(disk.failed) > 40
        assert good > 20
        written = {name.split("/")[0] for _, name, _ in disk.failed}
        assert {"recipe.yaml", "environment.json", "hints.json", "metrics.jsonl", "state"} <= written
        assert {"student.safetensors", "best.safetensors", "result.json"} <= written

    @pytest.mark.parametrize(
        ("function", "call"), [("fsync", 0), ("fsync", 6), ("rename", 0), ("replace", 0), ("replace", 2)]
    )
    def test_failing_system_calls(self, distilled, uninterrupted, tmp_path, monkeypatch, function, call):
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
            train(distilled, folder, on_event=watch)
        assert "\n" not in str(caught.value)
        monkeypatch.undo()
        train(distilled, folder)
        assert_same(folder, uninterrupted)

    @pytest.mark.parametrize("writer", ["torch.save", "accelerate.utils.other.safe_save_file"])
    def test_failing_writers(self, distilled, uninterrupted, tmp_path, monkeypatch, writer):
        def fail(*arguments, **keywords):
            # What torch raises when the disk is full is a RuntimeError
            raise RuntimeError(
                "[enforce fail at inline_container.cc:820]\n. PytorchStreamWriter failed writing"
            )

        def watch(event) -> None:
            if type(event).__name__ == "EpochStarted" and event.epoch == 2:
                monkeypatch.setattr(writer, fail)

        with pytest.raises(PursuhintError, match=r"save the state after epoch 2 into .*failed writing"):
            train(distilled, tmp_path / "run", on_event=watch)
        monkeypatch.undo()
        assert not (tmp_path / "run" / "state" / "writing").exists()
        train(distilled, tmp_path / "run")
        assert_same(tmp_path / "run", uninterrupted)

    def test_a_disk_that_really_is_full(self, distilled, uninterrupted, tmp_path):
        disk = tmp_path / "disk"
        disk.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=1600k", "none", str(disk)]
        if shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
            pytest.skip("may not mount a file system here")
        try:
            with pytest.raises(PursuhintError, match=r"No space left on device|failed writing|failed write"):
                train(distilled, disk / "run")
            shutil.copytree(disk / "run", tmp_path / "run")
        finally:
            subprocess.run(["umount", str(disk)], check=True)
        train(distilled, tmp_path / "run")
        assert_same(tmp_path / "run", uninterrupted)

    def test_a_deleted_folder_is_one_clear_line(self, distilled, tmp_path):
        def watch(event) -> None:
            if type(event).__name__ == "EpochStarted" and event.epoch == 2:
                shutil.rmtree(tmp_path / "run")

        with pytest.raises(
            PursuhintError, match=r"cannot save the state after epoch 2 .*: the run folder has been deleted"
        ):
            train(distilled, tmp_path / "run", on_event=watch)
        assert not (tmp_path / "run").exists()

    def test_a_folder_that_cannot_be_written_is_one_clear_line(self, distilled, tmp_path):
        def watch(event) -> None:
            if type(event).__name__ == "EpochStarted" and event.epoch == 2:
                shutil.rmtree(tmp_path / "run")
                (tmp_path / "run").touch()  # nothing can be made there again

        with pytest.raises(PursuhintError, match="cannot save the state after epoch 2"):
            train(distilled, tmp_path / "run", on_event=watch)
