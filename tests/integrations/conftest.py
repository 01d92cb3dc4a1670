"""Small digits, and a small distiller between two networks."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pursuhint.data import load_dataset
from pursuhint.distillation import Distiller
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints import Curriculum, HintPlan

EXAMPLE = torch.zeros(2, 1, 8, 8)


class Network(nn.Module):
    """A plain network of a few convolutions."""

    def __init__(self, widths: tuple[int, ...], norm: bool) -> None:
        super().__init__()
        self.units = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 3, 1 + (before > 1), 1, bias=not norm),
                    nn.BatchNorm2d(after) if norm else nn.Identity(),
                    nn.ReLU(),
                )
                for before, after in pairwise((1, *widths))
            )
        )
        self.classifier = nn.Linear(widths[-1], 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier(self.units(images).mean((2, 3)))


def network(*widths: int, seed: int, norm: bool = True) -> nn.Module:
    """A network with weights of its own."""
    torch.manual_seed(seed)
    return Network(widths, norm)


def pair(*, norm: bool = True, schedule: Curriculum | None = None) -> tuple[nn.Module, nn.Module, HintPlan]:
    """Student, teacher and their plan, the same every time."""
    student, teacher = network(4, 6, 8, seed=0, norm=norm), network(6, 8, 10, seed=1, norm=norm)
    points = [find_hint_points(each, EXAMPLE) for each in (teacher, student)]
    return student, teacher, replace(HintPlan.all_by_depth(*points), schedule=schedule)


def make_distiller(
    losses: dict[str, Any] | None = None, *, norm: bool = True, schedule: Curriculum | None = None
) -> Distiller:
    """A distiller that begins with the same weights every time."""
    student, teacher, plan = pair(norm=norm, schedule=schedule)
    torch.manual_seed(2)
    return Distiller.build(
        student,
        teacher,
        losses=losses or {"fitnet": 1.0, "kd": None},
        plan=plan,
        num_classes=10,
        num_samples=120,
        example=EXAMPLE,
    )


@pytest.fixture(scope="session")
def digits() -> tuple[Tensor, Tensor]:
    """120 images, (120, 1, 8, 8), and their labels."""
    part = load_dataset("digits").train
    return part.images[:120].float() / 255 - 0.5, part.labels[:120]


@pytest.fixture
def epochs_begun(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What distillers get to know of the progress, as (epoch, epochs)."""
    found: list[tuple[int, int]] = []
    begin = Distiller.begin_epoch

    def watched(self: Distiller, epoch: int, epochs: int) -> None:
        found.append((epoch, epochs))
        begin(self, epoch, epochs)

    monkeypatch.setattr(Distiller, "begin_epoch", watched)
    return found


def state(module: nn.Module) -> dict[str, Tensor]:
    """A copy of the state of a module."""
    return {name: values.clone() for name, values in module.state_dict().items()}


def all_weights(distiller: Distiller) -> set[str]:
    """Names of the weights of student and losses; a bias before a batch norm never learns."""
    return {name for name, _ in distiller.named_parameters() if name.endswith("weight")}


def changed(before: dict[str, Tensor], after: dict[str, Tensor]) -> set[str]:
    """Names of the tensors that differ."""
    assert before.keys() == after.keys()
    return {name for name in before if not torch.equal(before[name], after[name])}
