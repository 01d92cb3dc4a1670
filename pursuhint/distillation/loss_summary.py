"""Summaries of losses for the command line and the documentation, read from losses that have been built."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from pursuhint._util.wrappers import copy_network
from pursuhint.distillation.distiller import Distiller
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.plan import HintPlan
from pursuhint.losses import LOSSES, get_loss
from pursuhint.losses.base import Loss, WarmUp
from pursuhint.losses.info import LossInfo
from pursuhint.models import create_model

__all__ = ["LossSummary", "summarize_losses"]

_DRAWN = 16384 + 64  # more samples than any loss draws from its bank at once
_FEW, _MORE = _DRAWN, _DRAWN + 1024


@dataclass(frozen=True)
class LossSummary:
    """A loss with its default hyperparameters, between two small networks.

    Attributes:
        name: in `pursuhint.losses.LOSSES`.
        info: its traits: title, paper, default weights, ...
        parameters: number of parameters that it trains beside the student's own.
        stages: warm-ups before the main stage.
        fixed_bytes: memory of its state that does not depend on the number of training samples.
        bytes_per_sample: memory of its state for each training sample (memory banks).
        options: hyperparameters and their defaults.
    """

    name: str
    info: LossInfo
    parameters: int
    stages: tuple[WarmUp, ...]
    fixed_bytes: int
    bytes_per_sample: float
    options: Mapping[str, Any]

    @property
    def ce_weight(self) -> float | None:
        """Default weight of the cross-entropy beside it; None if the loss contains it."""
        return None if self.info.contains_classification else self.info.default_ce_weight


def summarize_losses(
    names: Iterable[str] = tuple(LOSSES),
    *,
    network: str = "resnet8",
    image_size: int = 8,
    num_classes: int = 10,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> list[LossSummary]:
    """Build losses with their defaults between two equal networks, and summarize them.

    Args:
        names: of the losses.
        network: teacher and student, by name. Its widths decide the numbers of parameters.
        image_size: height and width of the images, in pixels.
        num_classes: classes of the task.
        options: hyperparameters other than the defaults, for all the losses named.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student = create_model(network, num_classes=num_classes)
        teacher = copy_network(student)
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
            copy_network(self.student),
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
    own = [
        parameter
        for name, parameter in loss.named_parameters()
        if parameter.requires_grad and name not in loss.info.no_grad_parameters
    ]
    before = {key for key, _ in pair.student.named_parameters()}  # a loss may extend the student
    own += [value for key, value in distiller.student.named_parameters() if key not in before]
    few, per_sample = _state_bytes(loss), 0.0
    if any(len(buffer) == _FEW for buffer in loss.buffers() if buffer.dim()):  # a bank
        more = pair.build(name, kind, _MORE).loss(name)
        per_sample = (_state_bytes(more) - few) / (_MORE - _FEW)
    return LossSummary(
        name=name,
        info=loss.info,
        parameters=sum(parameter.numel() for parameter in own),
        stages=tuple(loss.stages()),
        fixed_bytes=round(few - per_sample * _FEW),
        bytes_per_sample=per_sample,
        options={
            key: value
            for key, value in kind.hyperparameters().items()
            if value is not inspect.Parameter.empty
        },
    )


def _state_bytes(loss: Loss) -> int:
    """Memory of a loss's own state: its buffers, except those of modules with parameters (batch norms)."""
    trained = {
        id(buffer)
        for module in loss.modules()
        if any(True for _ in module.parameters(recurse=False))
        for buffer in module.buffers()
    }
    return sum(
        buffer.numel() * buffer.element_size() for buffer in loss.buffers() if id(buffer) not in trained
    )
