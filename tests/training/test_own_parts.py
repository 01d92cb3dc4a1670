"""Losses, optimizer, scheduler and callbacks that are passed from Python beside a recipe."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pursuhint.data import ImageData, load_dataset
from pursuhint.errors import PursuhintError
from pursuhint.losses import HintsLoss, get_loss
from pursuhint.models import create_model
from pursuhint.study import compare
from pursuhint.training import EpochFinished, Recipe, RunRecord, RunStopped, StepDone, train
from tests.helpers.interrupted_runs import without_wall_times


@pytest.fixture(scope="module")
def data() -> ImageData:
    digits = load_dataset("digits")
    train_split, test = digits.train.select(torch.arange(64)), digits.test.select(torch.arange(32))
    return ImageData.from_tensors(
        "few", train=(train_split.images, train_split.labels), test=(test.images, test.labels), num_classes=10
    )


TEACHER = create_model("resnet8", num_classes=10, in_channels=1)


def recipe(**more: Any) -> Recipe:
    return Recipe.from_dict({"student": "resnet8", "epochs": 2, "batch_size": 32, **more})


def run(out: Path, data: ImageData, *, of: Recipe | None = None, **options: Any) -> RunRecord:
    return train(of or recipe(), out, data=data, device="cpu", **options)


def weights(record: RunRecord) -> Tensor:
    return nn.utils.parameters_to_vector(record.load_student().parameters())


class Margin(nn.Module):
    """Learns a scale, so that it has a state."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, student_logits: Tensor, labels: Tensor) -> Tensor:
        return F.multi_margin_loss(self.scale * student_logits, labels)


def squared(student_logits: Tensor, teacher_logits: Tensor) -> Tensor:
    return F.mse_loss(student_logits, teacher_logits)


class Means(HintsLoss):
    info = HintsLoss.info.replace(title="means of maps")

    def forward(self, student_maps: list[Tensor], teacher_maps: list[Tensor]) -> Tensor:
        return torch.stack([(a.mean() - b.mean()).square() for a, b in zip(student_maps, teacher_maps)]).sum()


def test_a_function_gives_what_the_loss_of_the_table_gives(tmp_path: Path, data: ImageData) -> None:
    def entropy(student_logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(student_logits, labels)

    table = run(tmp_path / "table", data, of=recipe(losses={"ce": 1}))
    own = run(tmp_path / "own", data, of=recipe(losses={"ce": 0}), losses={"mine": entropy})
    assert torch.equal(weights(own), weights(table))
    assert own.recipe.passed == (f"loss mine {__name__}.{entropy.__qualname__}",)
    assert own.last["train_python:mine"] == pytest.approx(table.last["train_ce"])


def test_a_recipe_may_leave_the_student_out_where_a_network_is_passed(
    tmp_path: Path, data: ImageData
) -> None:
    short = Recipe.from_dict({"epochs": 1, "batch_size": 32})
    with pytest.raises(PursuhintError, match="names no student"):
        run(tmp_path / "none", data, of=short)
    assert not (tmp_path / "none").exists()
    passed = run(tmp_path / "passed", data, of=short, student=TEACHER)
    assert passed.recipe.student.network == "python:CifarResNet"
    with pytest.raises(PursuhintError, match="names no student"):
        compare(Recipe.from_dict({"teacher": "resnet8", "losses": {"at": 1}}), tmp_path / "none", data=data)


def test_losses_of_every_form_are_trained_and_weighted(tmp_path: Path, data: ImageData) -> None:
    margin = Margin()
    record = run(
        tmp_path / "run", data, teacher=TEACHER, losses={"a": squared, "b": (margin, 0.5), "c": Means}
    )
    assert {name: loss.weight for name, loss in record.recipe.losses.items()} == {
        "ce": 1, "python:a": 1, "python:b": 0.5, "python:c": 1,
    }  # fmt: skip
    last = record.last
    parts = last["train_ce"] + last["train_python:a"] + 0.5 * last["train_python:b"] + last["train_python:c"]
    assert last["train_loss"] == pytest.approx(parts, rel=1e-4)
    assert (tmp_path / "run/hints.json").exists()  # the class looks at hint points
    assert margin.scale == 1  # a copy was trained
    assert RunRecord.load(tmp_path / "run").recipe.passed[1].endswith("Margin")
    with pytest.raises(PursuhintError, match="pass it again"):
        get_loss("python:a")


def test_a_run_resumes_when_the_parts_are_passed_again_and_is_refused_without(
    tmp_path: Path, data: ImageData
) -> None:
    parts: dict[str, Any] = {
        "losses": {"margin": Margin()},
        "optimizer": lambda parameters: torch.optim.Adam(parameters, lr=1e-2),
        "scheduler": lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.1),
    }
    whole = run(tmp_path / "whole", data, **parts)
    assert [line["lr"] for line in whole.metrics] == pytest.approx([1e-2, 1e-3])
    stopped = 0

    def stop_in_the_second_epoch(event: Any) -> None:
        nonlocal stopped
        stopped += isinstance(event, StepDone)
        if stopped == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    folder = tmp_path / "parts"
    with pytest.raises(RunStopped):
        run(folder, data, on_event=stop_in_the_second_epoch, **parts)
    for missing in parts:
        with pytest.raises(PursuhintError, match="passed from Python"):
            run(folder, data, **{name: part for name, part in parts.items() if name != missing})
    with pytest.raises(PursuhintError, match="pass"):
        run(tmp_path / "alone", data, of=RunRecord.load(folder).recipe)
    again = run(folder, data, **parts)
    assert torch.equal(weights(again), weights(whole))
    assert without_wall_times(folder) == without_wall_times(tmp_path / "whole")


def test_the_schedule_of_the_recipe_scales_the_rates_of_an_own_optimizer(
    tmp_path: Path, data: ImageData
) -> None:
    seen = []

    def note(event: Any, distiller: Any) -> None:
        if isinstance(event, EpochFinished):
            seen.append((event.metrics["epoch"], distiller.student.training))

    record = run(
        tmp_path / "run",
        data,
        of=recipe(schedule={"kind": "step", "milestones": [1], "gamma": 0.1}),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.3),
        callbacks=[note],
    )
    assert [line["lr"] for line in record.metrics] == pytest.approx([0.3, 0.03])
    assert [epoch for epoch, _ in seen] == [1, 2]
    assert record.recipe.passed[-1].startswith("callback ")


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        ({"losses": {"mine": lambda logits: logits}}, "parameter 'logits'"),
        ({"losses": {"mine": 3}}, "function or module"),
        ({"losses": {"a.b": squared}}, "without dots"),
        ({"losses": {"mine": squared}}, "needs a teacher"),
        ({"optimizer": 3}, "function of a list"),
        ({"optimizer": lambda parameters: None}, "torch.optim.Optimizer"),
        ({"scheduler": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o)}, "steps by epochs"),
        ({"callbacks": [3]}, "callback"),
    ],
    ids=["parameter", "number", "name", "teacher", "optimizer", "its-result", "scheduler", "callback"],
)
def test_what_cannot_be_used_is_one_line(
    parts: dict[str, Any], words: str, tmp_path: Path, data: ImageData
) -> None:
    with pytest.raises(PursuhintError, match=words):
        run(tmp_path / "run", data, **parts)


def test_progress_is_shown_when_it_is_asked_for(
    tmp_path: Path, data: ImageData, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path / "run", data, of=recipe(epochs=1), progress=True)
    assert "epoch 1 of 1: loss" in capsys.readouterr().err
    run(tmp_path / "other", data, of=recipe(epochs=1))  # no terminal
    assert capsys.readouterr().err == ""
