"""Stages: a loss that asks for a warm-up gets it from the same loop, and resumes in it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from pursuhint import training
from pursuhint.errors import PursuhintError
from pursuhint.losses import LOSSES
from pursuhint.losses.base import EmbeddingLoss, WarmUp
from pursuhint.training import Recipe
from pursuhint.training.stages import plan_stages
from tests.helpers.interrupted_runs import interrupt_at, train


class Warming(EmbeddingLoss):
    """A regression of the teacher's embedding whose projection is learned first, with the student at rest."""

    info = EmbeddingLoss.info.replace(title="Warming")

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.project = nn.Linear(student_width, teacher_width)

    @classmethod
    def arguments(cls, context):
        return {"student_width": context.student_embedding, "teacher_width": context.teacher_embedding}

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        return nn.functional.mse_loss(self.project(student), teacher)

    def stages(self):
        return (WarmUp("projection", epochs=2, trains_student=False, lr=0.2),)


@pytest.fixture
def recipe(monkeypatch, make_recipe) -> Recipe:
    table = {**LOSSES, "warming": f"{__name__}:Warming"}
    monkeypatch.setattr("pursuhint.losses.LOSSES", table)
    monkeypatch.setattr("pursuhint.training.recipe.schema.LOSSES", table)
    return make_recipe(losses={"warming": 1}, epochs=2, batch_size=64)


def test_warm_up_comes_first_and_counts_as_epochs(recipe, tmp_path):
    events: list = []
    record = train(recipe, tmp_path / "run", on_event=events.append)
    assert [line["stage"] for line in record.metrics] == ["warming:projection"] * 2 + ["main"] * 2
    assert [line["epoch"] for line in record.metrics] == [1, 2, 3, 4]
    assert [line["lr"] for line in record.metrics] == [0.2, 0.2, 0.05, 0.05]
    assert "train_ce" not in record.metrics[0]
    assert "train_ce" in record.metrics[2]
    first, second = record.metrics[:2]
    assert second["train_warming"] < first["train_warming"]
    assert second["test_loss"] == first["test_loss"]  # the student was at rest
    assert record.metrics[3]["test_loss"] != first["test_loss"]
    assert next(event for event in events if type(event).__name__ == "RunStarted").epochs == 4


def test_the_rate_of_a_warm_up_may_fall_along_a_cosine(recipe):
    falling = WarmUp("projection", 2, trains_student=False, lr=0.2, lr_floor=0.1)
    first, _ = plan_stages(recipe, SimpleNamespace(warm_ups=lambda: [("warming", falling)]))
    rates = [first.learning_rate(step, steps_per_epoch=5) for step in (0, 5, 10)]
    assert rates == pytest.approx([0.2, 0.11, 0.02])


def test_resumes_in_every_stage_and_between_them(recipe, tmp_path):
    whole = train(recipe, tmp_path / "whole").path / "student.safetensors"
    for epoch in range(1, 4):  # in the warm-up, at its end, in the main stage
        run = tmp_path / str(epoch)
        interrupt_at(recipe, run, "EpochFinished", epoch)
        (run / "student.safetensors").unlink()
        train(recipe, run)
        assert (run / "student.safetensors").read_bytes() == whole.read_bytes()


def test_parameters_that_the_caller_has_frozen_stay_frozen(alone, tmp_path):
    from pursuhint.models import create_model
    from pursuhint.models.checkpoint import read_state_dict

    torch.manual_seed(0)
    student = create_model("resnet8", num_classes=10, in_channels=1)
    student.conv1.weight.requires_grad_(False)
    record = train(alone.override("epochs=1"), tmp_path / "run", student=student)
    trained = read_state_dict(record.path / "student.safetensors")
    assert torch.equal(trained["conv1.weight"], student.conv1.weight)
    assert not torch.equal(trained["fc.weight"], student.fc.weight)


def test_a_loss_unknown_to_the_table_is_refused(make_recipe):
    with pytest.raises(PursuhintError, match="no loss named 'warming'"):
        make_recipe(losses={"warming": 1})


@pytest.mark.parametrize(
    ("losses", "setting"),
    [
        ({"ft": {"weight": 1, "warm_up_epochs": 1, "warm_up_lr": 1e18}}, "losses.ft.warm_up_lr"),
        ({"warming": 1}, "optimizer.lr"),
    ],
)
def test_a_warm_up_that_diverges_names_the_setting_that_matters(
    recipe, make_recipe, tmp_path, monkeypatch, losses, setting
):
    diverging = (WarmUp("projection", 1, trains_student=True, lr=1e30),)
    monkeypatch.setattr(Warming, "stages", lambda self: diverging)
    changed = make_recipe(losses=losses, epochs=1, batch_size=256)
    with pytest.raises(PursuhintError, match="is not finite at epoch 1") as failed:
        training.train(changed, tmp_path / "run", device="cpu")
    assert f"lower {setting}" in str(failed.value)
    assert "weight" not in str(failed.value)
