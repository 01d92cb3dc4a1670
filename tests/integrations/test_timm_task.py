"""Trained as a task of timm."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from pursuhint.distillation import Distiller
from pursuhint.errors import PursuhintError
from tests.integrations.conftest import all_weights, changed, make_distiller, network, state

timm_task = pytest.importorskip("timm.task")

from timm.utils import unwrap_model  # noqa: E402

from pursuhint.integrations import HintDistillationTask  # noqa: E402


def make_task(distiller: Distiller | None = None, *, ema: bool = False) -> tuple[Any, torch.optim.Optimizer]:
    task = HintDistillationTask(distiller or make_distiller(), verbose=False)
    if ema:
        task.setup_ema(decay=0.5)
    return task, torch.optim.SGD(task.get_trainable_module().parameters(), lr=0.02, momentum=0.9)


def train(task: Any, optimizer: torch.optim.Optimizer, digits: Any, epochs: range) -> dict[str, Any]:
    for epoch in epochs:
        task.train()
        task.begin_epoch(epoch, 3)
        for images, labels in zip(*(values.split(40) for values in digits)):
            result = task(images, labels)
            optimizer.zero_grad()
            result["loss"].backward()
            optimizer.step()
            task.update_ema()
    return result


def test_student_and_losses_learn_and_the_teacher_does_not(digits, epochs_begun):
    task, optimizer = make_task()
    distiller = task.step.distiller
    before, teacher = state(distiller), state(distiller.teacher)
    result = train(task, optimizer, digits, range(3))
    assert changed(before, state(distiller)) >= all_weights(distiller)
    assert not changed(teacher, state(distiller.teacher))
    assert epochs_begun == [(0, 3), (1, 3), (2, 3)]
    assert result["output"].shape == (40, 10)
    assert {"loss_fitnet", "loss_kd", "loss_ce"} <= result.keys()


def test_a_second_view_reaches_the_losses(digits):
    task, _ = make_task(make_distiller({"mlkd": None}))
    images, labels = (values[:20] for values in digits)
    alone, both = task(images, labels), task(images, labels, second_view=images.flip(3))
    assert both["output"].shape == alone["output"].shape
    assert both["loss_mlkd"] > 1.2 * alone["loss_mlkd"]


def test_evaluation_average_and_checkpoint_are_those_of_the_student(digits, tmp_path):
    task, optimizer = make_task(ema=True)
    first = state(task.step.distiller.student)
    train(task, optimizer, digits, range(1))
    student = task.get_eval_model()
    assert student is task.step.distiller.student
    average = unwrap_model(task.get_eval_model(ema=True))
    assert changed(first, state(average))
    assert changed(state(student), state(average))
    assert not changed(state(student), task.get_checkpoint_state()["state_dict"])
    assert not changed(state(average), task.get_checkpoint_state(ema=True)["state_dict_ema"])


def test_a_run_resumes_to_the_weights_of_an_uninterrupted_one(digits, tmp_path):
    whole, optimizer = make_task()
    train(whole, optimizer, digits, range(2))
    torch.save({**whole.get_checkpoint_state(), "optimizer": optimizer.state_dict()}, tmp_path / "last.pt")
    train(whole, optimizer, digits, range(2, 3))
    resumed, optimizer = make_task()
    timm_task.resume_task_checkpoint(resumed, tmp_path / "last.pt", optimizer)
    train(resumed, optimizer, digits, range(2, 3))
    assert not changed(state(whole), state(resumed))
    plain = network(4, 6, 8, seed=5)  # and the student fits a network of its kind
    plain.load_state_dict(torch.load(tmp_path / "last.pt", weights_only=True)["state_dict"])


def test_what_would_be_ignored_is_refused(digits):
    task, _ = make_task()
    soft = nn.functional.one_hot(digits[1], 10).float()
    with pytest.raises(PursuhintError, match="soft labels"):
        task(digits[0], soft)
    with pytest.raises(PursuhintError, match="acceleration"):
        task.compile()
