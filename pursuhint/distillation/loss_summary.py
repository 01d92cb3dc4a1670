"""What there is to say about a loss in a line or two, for the command line and for the documentation.

What can be read off a loss is read off one that has been built; nothing here is written down a second time.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from pursuhint.distillation.distiller import Distiller
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.losses import LOSSES, get_loss
from pursuhint.losses.base import Loss, WarmUp
from pursuhint.models import create_model

__all__ = ["summarize"]

_DRAWN = 16384 + 64  # more samples than any loss draws from its bank at once
_FEW, _MORE = _DRAWN, _DRAWN + 1024


@dataclass(frozen=True)
class LossSummary:
    """One loss as its defaults have it.

    Attributes:
        name: in `pursuhint.losses.LOSSES`.
        title: name of the method.
        paper: citation.
        compares: what it compares.
        learns: what is trained beside the student, in words; empty if nothing is.
        parameters: how many parameters that are.
        weight: default weight.
        ce_weight: default weight of the cross-entropy beside it; None if the loss contains it.
        stages: warm-ups before the main stage.
        in_main_stage: whether it is computed after them.
        batch_coupled: whether the samples of a batch enter together.
        alters_student: whether the student is changed while it trains.
        fixed_bytes: memory that it keeps from batch to batch, whatever the number of samples.
        bytes_per_sample: the same for every training sample: memory banks.
        options: hyperparameters and their defaults.
    """

    name: str
    title: str
    paper: str
    compares: str
    learns: str
    parameters: int
    weight: float
    ce_weight: float | None
    stages: tuple[WarmUp, ...]
    in_main_stage: bool
    batch_coupled: bool
    alters_student: bool
    fixed_bytes: int
    bytes_per_sample: float
    options: Mapping[str, Any]

    @property
    def stages_words(self) -> str:
        """The course of a training: ``main``, and what comes before it."""
        before = [f"{stage.epochs} epochs {stage.name}" for stage in self.stages]
        return " -> ".join([*before, "main" if self.in_main_stage else "main without it"])


def summarize(
    names: Iterable[str] = tuple(LOSSES),
    *,
    network: str = "resnet8",
    image_size: int = 8,
    num_classes: int = 10,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> list[LossSummary]:
    """Build losses with their defaults between two equal networks, and describe them.

    Args:
        names: which losses.
        network: of teacher and student. Widths decide the numbers of parameters.
        image_size: height and width of the images.
        num_classes: classes of the task.
        options: hyperparameters that are not the defaults; of all the losses named.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student = create_model(network, num_classes=num_classes)
        teacher = copy.deepcopy(student)
        example = torch.zeros(2, 3, image_size, image_size)
        points = find_hint_points(teacher, example)
        plan = HintPlan.conventional(teacher, points).with_student(points, student)
        pair = _Pair(student, teacher, plan, example, num_classes, _Asked(options))
        return [_summary(name, pair) for name in names]


@dataclass(frozen=True)
class _Asked:
    """Hyperparameters, at the default weight."""

    options: Mapping[str, Any]
    weight: float | None = None


@dataclass(frozen=True)
class _Pair:
    """Two networks of one shape, to build losses between."""

    student: nn.Module
    teacher: nn.Module
    plan: HintPlan
    example: torch.Tensor
    num_classes: int
    asked: _Asked

    def build(self, name: str, kind: type[Loss], samples: int) -> Distiller:
        return Distiller.build(
            copy.deepcopy(self.student),
            self.teacher if kind.info.needs_teacher else None,
            losses={name: self.asked},
            plan=self.plan if kind.needs_hint_plan() else None,
            num_classes=self.num_classes,
            num_samples=samples,
            example=self.example,
            labels=torch.arange(samples) % self.num_classes,
            batch_size=64,
        )


def _summary(name: str, pair: _Pair) -> LossSummary:
    kind = get_loss(name)
    distiller = pair.build(name, kind, _FEW)
    loss = distiller.loss(name)
    own = [parameter for parameter in loss.parameters() if parameter.requires_grad]
    before = {key for key, _ in pair.student.named_parameters()}
    own += [value for key, value in distiller.student.named_parameters() if key not in before]
    few, per_sample = _state_bytes(loss), 0.0
    if any(len(buffer) == _FEW for buffer in loss.buffers() if buffer.dim()):  # a bank
        more = pair.build(name, kind, _MORE).loss(name)
        per_sample = (_state_bytes(more) - few) / (_MORE - _FEW)
    return LossSummary(
        name=name,
        title=kind.info.title,
        paper=kind.info.paper,
        compares=kind.info.compares,
        learns=kind.info.learns,
        parameters=sum(parameter.numel() for parameter in own),
        weight=kind.info.default_weight,
        ce_weight=None if kind.info.contains_classification else kind.info.default_ce_weight,
        stages=tuple(loss.stages()),
        in_main_stage=not loss.info.warm_up_only,
        batch_coupled=loss.info.batch_coupled,
        alters_student=kind.info.alters_student,
        fixed_bytes=round(few - per_sample * _FEW),
        bytes_per_sample=per_sample,
        options={
            key: value
            for key, value in kind.hyperparameters().items()
            if value is not inspect.Parameter.empty
        },
    )


def _state_bytes(loss: Loss) -> int:
    """Memory of what a loss keeps from batch to batch: buffers, those of the parts it trains left out."""
    trained = {
        id(buffer)
        for module in loss.modules()
        if any(True for _ in module.parameters(recurse=False))
        for buffer in module.buffers()
    }
    return sum(
        buffer.numel() * buffer.element_size() for buffer in loss.buffers() if id(buffer) not in trained
    )
