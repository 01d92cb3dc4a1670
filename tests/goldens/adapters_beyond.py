"""Adapters of the losses since 2021 and of standardized logits; their cases follow from the formulas."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from pursuhint.losses import get_loss
from pursuhint.losses.base import Loss
from pursuhint.losses.context import LossContext
from pursuhint.losses.mgd import MaskedGenerativeLoss
from pursuhint.losses.ofa import OneForAllLoss
from tests.goldens.loss_adapters import Prepared, Setup, _context, _hint_loss, _logits


class _AsOne(Loss):
    """A loss whose addends the case names as one, times a weight that the case has inside the loss."""

    def __init__(self, loss: Loss, name: str, weight: float = 1.0) -> None:
        super().__init__()
        self.loss, self.name, self.weight = loss, name, weight

    def forward(self, *inputs: Any) -> Tensor:
        return self.weight * self.loss(*inputs)

    def terms(self, *inputs: Any) -> dict[str, Tensor]:
        return {self.name: self.weight * torch.stack(list(self.loss.terms(*inputs).values())).sum()}


def _prepared(setup: Setup, loss: Loss, inputs: list[Any], weight: float = 1.0, **more: Any) -> Prepared:
    return Prepared(_AsOne(loss, setup.case.method, weight), inputs, lambda name: _inside(name, loss), **more)


def _inside(name: str, loss: Loss) -> str:
    known = dict(loss.named_parameters()) | dict(loss.named_buffers())
    return next(f"loss.{ours}" for ours in (name, f"hints.0.{name}") if ours in known)


def _of_logits(**names: str) -> Callable[[Setup], Prepared]:
    def adapter(setup: Setup) -> Prepared:
        options = setup.given(**names)
        if setup.case.entry.get("variant") == "standardized":
            options["standardize"] = True
        if setup.case.method in ("rld", "dkd"):
            options["ramp_epochs"] = 0
        loss = get_loss(setup.case.method).build(_context(), **options)
        return _prepared(setup, loss, _logits(setup))

    return adapter


def standardized_or(plain: Callable[[Setup], Prepared], **names: str) -> Callable[[Setup], Prepared]:
    """The adapter of a loss, and another one for its cases with standardized logits."""
    other = _of_logits(**names)

    def adapter(setup: Setup) -> Prepared:
        return (other if setup.case.entry.get("variant") == "standardized" else plain)(setup)

    return adapter


def _ofa(setup: Setup) -> Prepared:
    assert setup.case.entry["variant"] == "final-logits"
    inputs = _logits(setup)
    loss = OneForAllLoss([], inputs[0].shape[1], **setup.given(gamma="gamma", temperature="T"))
    return _prepared(setup, loss, inputs)


def _of_maps(**names: str) -> Callable[[Setup], Prepared]:
    def adapter(setup: Setup) -> Prepared:
        return _prepared(setup, *_hint_loss(setup, **setup.given(**names)))

    return adapter


class _GivenMask(MaskedGenerativeLoss):
    """The loss with a mask that the case gives."""

    given: Tensor

    def mask(self, features: Tensor, indices: Tensor, pair: int) -> Tensor:
        return self.given[:, :, None, None]


def _mgd(setup: Setup) -> Prepared:
    students, teachers = setup.role("student_features"), setup.role("teacher_features")
    loss = _GivenMask(
        [student.shape[1] for student in students],
        [teacher.shape[1] for teacher in teachers],
        align="align.weight" in setup.case.entry["parameters"],
        **setup.given(mask_ratio="mask_ratio"),
    )
    loss.given = setup.role("mask")
    inputs = [students, teachers, torch.arange(len(students[0]))]
    return _prepared(setup, loss, inputs, weight=setup.option("alpha"))


def _srd(setup: Setup) -> Prepared:
    student, teacher = setup.role("student_embedding"), setup.role("teacher_embedding")
    variant = {"imagenet": "difference", "deit": "correlation"}[setup.case.entry["variant"]]
    options = setup.given(norm_eps="bn_eps", power="power", eps="eps")
    options |= {name: float(value) for name, value in options.items()}
    context = LossContext((), 10, 64, student.shape[1], teacher.shape[1])
    loss = get_loss("srd").build(context, variant=variant, **options)
    return _prepared(setup, loss, [student, teacher])


ADAPTERS: Mapping[str, Callable[[Setup], Prepared]] = {
    "nkd": _of_logits(gamma="gamma", temperature="T"),
    "ttm": _of_logits(gamma="gamma"),
    "wttm": _of_logits(gamma="gamma"),
    "rld": _of_logits(alpha="alpha", beta="beta", temperature="T", confidence_temperature="T_alpha"),
    "ofa": _ofa,
    "cwd": _of_maps(temperature="tau"),
    "pkd": _of_maps(eps="eps"),
    "mgd": _mgd,
    "srd": _srd,
}
