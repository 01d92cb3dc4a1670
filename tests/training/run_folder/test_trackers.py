"""Metrics go to trackers as well; a resumed run resumes there, too."""

from __future__ import annotations

import configparser
from pathlib import Path

import pytest

from pursuhint.errors import PursuhintError
from pursuhint.training.run_folder import trackers
from pursuhint.training.run_folder.trackers import TRACKERS, Trackers, check_trackers
from tests.helpers.interrupted_runs import assert_same, interrupt_at, train


@pytest.fixture
def tensorboard_recipe(distilled):
    pytest.importorskip("tensorboard")
    return distilled.model_copy(update={"trackers": ("tensorboard",)})


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return {tag: [(one.step, one.value) for one in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what tensorboard imports
def test_tensorboard_gets_every_epoch_once(tensorboard_recipe, uninterrupted, tmp_path):
    folder = tmp_path / "run"
    interrupt_at(tensorboard_recipe, folder, "EpochFinished", 2)
    record = train(tensorboard_recipe, folder)
    found = scalars(folder)
    assert {"train/loss", "train/vid", "test/top1", "lr", "samples_per_second"} <= found.keys()
    for epoch, (step, value) in enumerate(found["test/top1"], start=1):
        assert step == epoch
        assert value == pytest.approx(record.metrics[epoch - 1]["test_top1"], rel=1e-6)
    assert len(found["test/top1"]) == 3
    assert_same(folder, uninterrupted)


def test_mistakes_come_before_anything_is_written(distilled, tmp_path, monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(PursuhintError, match=r"needs the package wandb; .*pip install 'pursuhint\[wandb\]'"):
        train(distilled.model_copy(update={"trackers": ("wandb",)}), tmp_path / "run")
    with pytest.raises(PursuhintError, match="no tracker named 'tensorbord'; did you mean 'tensorboard'"):
        train(distilled.model_copy(update={"trackers": ("tensorbord",)}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    check_trackers(())


class Recorded:
    """Stands for the package of a tracker, which needs an account."""

    def __init__(self, run_name: str, **options) -> None:
        self.options, self.logged, self.config, self.finished = options, [], None, False
        made.append(self)

    def store_init_configuration(self, values) -> None:
        self.config = values

    def log(self, values, step) -> None:
        if step == 2:
            raise OSError("the network is down")
        self.logged.append((step, values))

    def finish(self) -> None:
        self.finished = True


made: list[Recorded] = []


def test_a_run_in_wandb_is_gone_on_with(distilled, uninterrupted, tmp_path, monkeypatch):
    monkeypatch.setattr(trackers, "WandBTracker", Recorded)
    made.clear()
    options = []
    for epochs_done in (0, 1):
        follower = Trackers(("wandb",), uninterrupted, distilled, epochs_done)
        follower.log({"epoch": 1, "stage": "main", "train_loss": 2.0, "lr": 0.1})
        with pytest.raises(
            PursuhintError, match=r"'wandb' failed after epoch 2, which is saved: the network is"
        ):
            follower.log({"epoch": 2, "train_loss": 1.0})
        follower.close()
        options.append(made[-1].options)
    assert made[0].logged == [(1, {"train/loss": 2.0, "lr": 0.1})]
    assert made[0].config["optimizer.lr"] == 0.02
    assert made[1].config is None
    assert all(one.finished for one in made)
    assert options[0] == options[1]
    assert options[0]["resume"] == "allow"
    assert options[0]["name"] == "run"


def test_every_tracker_has_an_extra_of_its_name():
    setup = configparser.ConfigParser()
    setup.read(Path(__file__).parents[3] / "setup.cfg")
    assert set(TRACKERS) <= set(setup["options.extras_require"])
