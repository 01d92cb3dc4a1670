"""DOT: its steps against a slow transcription, and runs with it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pursuhint.errors import PursuhintError
from pursuhint.models import create_model
from pursuhint.training import Recipe, RunRecord, train
from pursuhint.training.dot import DistillationOrientedSGD
from pursuhint.training.recipe.dot_terms import check_processes
from pursuhint.training.recipe.resolve import resolve_recipe

RATE, MU, DECAY = 0.1, 0.9, 0.01


def gradients(step: int, name: str) -> float:
    return {"both": (step + 1.0, -2.0 * step - 0.5), "task": (step - 0.3, None), "other": (None, 0.7)}[name]


def trained(delta: float, steps: int = 4) -> dict[str, float]:
    parameters = {name: nn.Parameter(torch.tensor(2.0)) for name in ("both", "task", "other")}
    optimizer = DistillationOrientedSGD(
        parameters.values(), lr=RATE, momentum=MU, delta=delta, weight_decay=DECAY
    )
    for step in range(steps):
        for place in (0, 1):
            for name, parameter in parameters.items():
                value = gradients(step, name)[place]
                parameter.grad = None if value is None else torch.tensor(value)
            if place == 0:
                optimizer.keep_task_gradients()
        optimizer.step()
    return {name: parameter.item() for name, parameter in parameters.items()}


def by_hand(name: str, delta: float, steps: int = 4) -> float:
    value, task, other = 2.0, 0.0, 0.0
    for step in range(steps):
        first, second = gradients(step, name)
        if first is not None and second is not None:
            task = (MU - delta) * task + first + DECAY * value
            other = (MU + delta) * other + second
        else:
            task = MU * task + (first if first is not None else second) + DECAY * value
        value -= RATE * (task + other)
    return value


@pytest.mark.parametrize("delta", [0.0, 0.075])
def test_steps_are_the_formula(delta):
    assert trained(delta) == pytest.approx(
        {name: by_hand(name, delta) for name in ("both", "task", "other")}, rel=1e-5
    )


def test_without_a_difference_it_is_sgd():
    value = nn.Parameter(torch.tensor(2.0))
    optimizer = torch.optim.SGD([value], lr=RATE, momentum=MU, weight_decay=DECAY)
    for step in range(4):
        value.grad = torch.tensor(sum(gradients(step, "both")))
        optimizer.step()
    assert trained(0.0)["both"] == pytest.approx(value.item(), rel=1e-5)
    assert trained(0.075)["both"] != pytest.approx(value.item(), rel=1e-3)


def recipe(**changes) -> Recipe:
    values = {
        "student": "resnet8",
        "teacher": "resnet8",
        "data": {"name": "digits", "train_samples": 120},
        "losses": {"at": 100},
        "optimizer": {"name": "dot"},
        "epochs": 2,
    }
    return Recipe.from_dict({**values, **changes})


def run(folder, **options):
    torch.manual_seed(0)
    teacher = create_model("resnet8", num_classes=10, in_channels=1)
    chosen = options.pop("recipe", recipe())
    return train(chosen, teacher=teacher, out=folder, **options)


def weights(folder):
    return (folder / "student.safetensors").read_bytes()


def test_a_run_resumes_to_the_same_weights(tmp_path):
    stopped = []

    def stop(event):
        if type(event).__name__ == "EpochFinished" and not stopped:
            stopped.append(event)
            raise KeyboardInterrupt

    run(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", on_event=stop)
    run(tmp_path / "stopped")
    assert weights(tmp_path / "stopped") == weights(tmp_path / "whole")
    assert RunRecord.load(tmp_path / "whole").recipe.optimizer.name == "dot"
    run(tmp_path / "sgd", recipe=recipe(optimizer={"name": "sgd"}))
    assert weights(tmp_path / "sgd") != weights(tmp_path / "whole")


@pytest.mark.parametrize(
    "losses",
    [{"wsld": None}, {"ce": 0, "at": 100}, {"ce": 1}, {"fsp": None}, {"fitnet": {"two_stages": True}}],
    ids=["inside", "without", "alone", "warm-up", "warm-up-by-option"],
)
def test_both_kinds_of_losses_are_needed(losses):
    changes = {"losses": losses} | ({"teacher": None} if losses == {"ce": 1} else {})
    with pytest.raises(PursuhintError, match="both must"):
        resolve_recipe(recipe(**changes))
    resolve_recipe(recipe(optimizer={"name": "sgd"}, **changes))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"optimizer": {"name": "sgd", "delta": 0.05}}, "optimizer.delta"),
        ({"optimizer": {"name": "dot", "delta": 0.2}}, "optimizer.delta"),
        ({"optimizer": {"name": "dot", "nesterov": True}}, "nesterov"),
        ({"precision": "fp16"}, "fp16"),
    ],
    ids=["delta of SGD", "momentum above 1", "nesterov", "fp16"],
)
def test_settings_that_do_not_fit_are_refused(changes, named):
    with pytest.raises(PursuhintError, match=named):
        recipe(**changes)


def test_several_processes_are_refused():
    check_processes(recipe(), 1)
    with pytest.raises(PursuhintError, match="several processes"):
        check_processes(recipe(), 2)
