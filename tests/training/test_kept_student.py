"""A warm-up that keeps its best student: what is measured, which student goes on, and resuming."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import nn

from pursuhint.data import ImageData, make_loader
from pursuhint.errors import PursuhintError
from pursuhint.losses import get_loss
from pursuhint.losses.base import WarmUp
from pursuhint.models import create_model
from pursuhint.training import Recipe, RunRecord
from pursuhint.training.kept_student import kept_students
from pursuhint.training.nearest_means import nearest_mean_accuracy
from pursuhint.training.recipe.schema import OptimizerConfig, ScheduleConfig
from pursuhint.training.stages import Stage
from tests.helpers.interrupted_runs import assert_same, interrupt_at, train

RECIPE = Recipe.from_dict(
    {
        "student": "resnet8",
        "losses": {"refilled": {"matching_epochs": 3, "keep_matching": "best-of-test", "score_every": 2}},
        "optimizer": {"lr": 0.2},
        "epochs": 1,
        "batch_size": 100,
        "save_every_steps": 1,
    }
)


def teacher() -> nn.Module:
    torch.manual_seed(0)
    return create_model("resnet8", num_classes=10, in_channels=1)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose student is better after the second epoch of matching than after the third and last."""
    folder = tmp_path_factory.mktemp("kept") / "run"

    def watch(event: object) -> None:
        if type(event).__name__ == "EpochFinished":
            number = event.metrics["epoch"]
            shutil.copyfile(folder / "student.safetensors", folder.with_name(f"epoch-{number}"))

    train(RECIPE, folder, teacher=teacher(), on_event=watch)
    return folder


def test_the_best_measured_student_goes_on(whole):
    lines = RunRecord.load(whole).metrics
    assert ["nearest_mean_test" in line for line in lines] == [False, True, True, False]
    assert lines[1]["nearest_mean_test"] > lines[2]["nearest_mean_test"]
    assert [line.get("kept_epoch") for line in lines] == [None, None, 2, None]
    kept = (whole / "student-matching.safetensors").read_bytes()[-4000:]  # without the header
    assert kept == whole.with_name("epoch-2").read_bytes()[-4000:]
    assert kept == whole.with_name("epoch-3").read_bytes()[-4000:]  # the state after the stage has it, too
    assert kept != whole.with_name("epoch-1").read_bytes()[-4000:]


def test_a_run_stopped_after_the_best_epoch_resumes(whole, tmp_path):
    interrupt_at(RECIPE, tmp_path / "run", "StepDone", 6, teacher=teacher())  # the end of epoch 3
    train(RECIPE, tmp_path / "run", teacher=teacher())
    assert_same(tmp_path / "run", whole)


class Flat(nn.Module):
    """Images of two pixels are their own embedding."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(2, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.fc(images.flatten(1))


@pytest.mark.parametrize("split", ["train", "test"])
def test_the_score_equals_a_slow_reference(split):
    generator = torch.Generator().manual_seed(0)
    images, labels = torch.randn(40, 1, 1, 2, generator=generator), torch.arange(40) % 3
    parts = {"train": (images[:25], labels[:25]), "test": (images[25:], labels[25:])}
    data = ImageData.from_tensors("pixels", **parts)
    train_part, other = (make_loader(data, one, batch_size=7, training=False) for one in ("train", split))
    rows = {one: next(make_loader(data, one, batch_size=25, training=False).epoch(0)) for one in parts}
    right = 0
    for place, (row, label) in enumerate(zip(rows[split].images.flatten(1), rows[split].labels.tolist())):
        scores = []
        for one in range(3):
            chosen = rows["train"].labels == one
            if split == "train":
                chosen[place] = False  # left out of the mean of its own class
            center = rows["train"].images.flatten(1)[chosen].mean(0)
            scores.append(float(row @ center / center.norm()))
        right += max(range(3), key=scores.__getitem__) == label
    found = nearest_mean_accuracy(
        Flat(3), train_part, None if split == "train" else other, classes=3, reduce=lambda sums: sums
    )
    assert found == pytest.approx(100 * right / len(rows[split].labels))
    assert 0 < found < 100


def stages(keep: str) -> list[Stage]:
    warm_up = WarmUp("matching", 25, trains_student=True, keep=keep)
    settings = OptimizerConfig(), ScheduleConfig()
    return [
        Stage("other", 3, *settings, "ft", WarmUp("codes", 3, trains_student=False)),
        Stage("refilled:matching", 25, *settings, "refilled", warm_up),
        Stage("main", 5, *settings),
    ]


def test_a_stage_is_measured_at_its_interval_and_its_end():
    assert kept_students(stages("last"), validation=True) == {}
    found = kept_students(stages("best"), validation=True)
    assert list(found) == list(range(4, 29))
    kept = found[4]
    assert [epoch for epoch in found if kept.measured_after(epoch)] == [13, 23, 28]
    assert kept.split == "val"
    assert kept_students(stages("best"), validation=False)[4].split == "train"
    assert kept_students(stages("best-of-test"), validation=True)[4].split == "test"
    lines = [{} for _ in range(28)]
    assert kept.best_epoch(lines[:12]) is None
    lines[12], lines[22], lines[27] = ({"nearest_mean_val": value} for value in (50.0, 60.0, 60.0))
    assert kept.best_epoch(lines[:13]) == 13
    assert kept.best_epoch(lines) == 23


def test_what_cannot_be_kept_is_refused():
    with pytest.raises(PursuhintError, match="keep_matching must be one of"):
        get_loss("refilled")(4, 8, keep_matching="first")
    with pytest.raises(PursuhintError, match="score_every must be positive"):
        get_loss("refilled")(4, 8, score_every=0)
