"""Batches that say little or too much: value and gradients of every loss stay finite."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pursuhint.features.extractor import Features
from pursuhint.losses import LOSSES
from pursuhint.testing.loss_setting import make_batch, student_features, teacher_features, tensors
from tests.losses.test_contract import build

Change = Callable[[Tensor], Tensor]


def unchanged(values: Tensor) -> Tensor:
    return values


def all_alike(values: Tensor) -> Tensor:
    return values[:1].expand_as(values)


def zero(values: Tensor) -> Tensor:
    return torch.zeros_like(values)


def constant(values: Tensor) -> Tensor:
    return torch.full_like(values, 1 / 3)


def some_rows_zero(values: Tensor) -> Tensor:
    return values.index_fill(0, torch.tensor([0, 3]), 0.0)


def some_units_zero(values: Tensor) -> Tensor:
    return values.index_fill(1, torch.tensor([0, 2]), 0.0)


def same_everywhere(values: Tensor) -> Tensor:
    """Maps of one value a channel, so that their singular values but the first are zero."""
    return values.flatten(2)[:, :, :1, None].expand_as(values) if values.ndim == 4 else values


def two_alike(values: Tensor) -> Tensor:
    return values.index_copy(0, torch.tensor([1]), values[2:3])


def saturated(values: Tensor) -> Tensor:
    return 1e4 * values


def tiny(values: Tensor) -> Tensor:
    return 1e-25 * values  # the square of which is zero in single precision


# what happens to student and teacher
DEGENERATE: dict[str, tuple[Change, Change]] = {
    "identical samples": (all_alike, all_alike),
    "identical samples of the student": (all_alike, unchanged),
    "identical samples of the teacher": (unchanged, all_alike),
    "two equal samples of the student": (two_alike, unchanged),
    "zero student": (zero, unchanged),
    "zero teacher": (unchanged, zero),
    "zero student and teacher": (zero, zero),
    "constant": (constant, constant),
    "zero rows": (some_rows_zero, lambda values: some_rows_zero(values.flip(0))),
    "dead units": (some_units_zero, lambda values: values.index_fill(1, torch.tensor([1]), 0.0)),
    "constant maps": (same_everywhere, same_everywhere),
    "saturated": (saturated, lambda values: -saturated(values)),
    "saturated student": (saturated, unchanged),
    "saturated teacher": (unchanged, saturated),
    "tiny": (tiny, tiny),
}


def changed(features: Features, change: Change) -> Features:
    found = [
        change(values.detach()).clone().requires_grad_(values.requires_grad) for values in tensors(features)
    ]
    return Features(found[0], found[1], tuple(found[2:]))


def finite(loss, student: Features, teacher: Features) -> bool:
    value = loss.compute(student, teacher, make_batch())
    if value.requires_grad:
        value.backward()
    found = [tensor.grad for tensor in (*tensors(student), *loss.parameters()) if tensor.grad is not None]
    return all(bool(tensor.isfinite().all()) for tensor in (value, *found))


@pytest.mark.parametrize("name", LOSSES)
def test_is_finite(name):
    torch.manual_seed(0)
    for case, (own, other) in DEGENERATE.items():
        for stage in (None, *build(name).stages()):
            loss = build(name)
            if stage is not None:
                loss.begin_stage(stage.name)
            student, teacher = changed(student_features(), own), changed(teacher_features(), other)
            assert finite(loss, student, teacher), case


LARGE, SMALL = 2.0**63, 2.0**-63  # 9e18 and 1e-19: their squares leave the range of float32
SQUARES = {  # squared errors or products of features, beyond float32 or just below its end
    *(
        "fitnet",
        "vid",
        "reviewkd",
        "srrl",
        "semckd",
        "simkd",
        "norm",
        "fkd",
        "distpro",
        "cc",
        "fsp",
        "ofd",
        "mgd",
        "wkd-f",
        "cat-kd",
    ),
    *("fsp initialisation", "ft paraphraser"),
}
BATCH_NORM = {"ft", "ab", "ab initialisation"}  # variances overflow inside torch's, which then gives zeros
STAGES = [(name, stage) for name in LOSSES for stage in (None, *(s.name for s in build(name).stages()))]


def computed(name: str, stage: str | None, factor: float, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
    """Value and gradients of the student's and teacher's features times a factor, in float32 or float64."""
    torch.manual_seed(0)
    loss = build(name).to(dtype)
    if stage is not None:
        loss.begin_stage(stage)
    student, teacher = (
        changed(features, lambda values: (factor * values).to(dtype))
        for features in (student_features(), teacher_features())
    )
    value = loss.compute(student, teacher, make_batch(dtype))
    if value.requires_grad:
        value.backward()
    every = (*tensors(student), *loss.parameters())
    return value.detach(), [tensor.grad for tensor in every if tensor.grad is not None]


@pytest.mark.parametrize("factor", [LARGE, SMALL])
@pytest.mark.parametrize(("name", "stage"), STAGES)
def test_values_whose_squares_overflow_have_the_loss_of_float64(name, stage, factor):
    case = name if stage is None else f"{name} {stage}"
    value, gradients = computed(name, stage, factor, torch.float32)
    exact, _ = computed(name, stage, factor, torch.float64)
    if factor == LARGE and case in SQUARES:
        assert value == torch.inf  # which stops the training with a line that names the loss; never NaN
        assert exact > 1e35
        return
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert value.isfinite()
    if not (factor == LARGE and case in BATCH_NORM):
        torch.testing.assert_close(value.double(), exact, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["at", "sp", "rkd", "kdsvd", "nst", "pkt", "aml", "pkd"])
def test_values_whose_squares_overflow_have_the_loss_of_their_scale(name):
    """These do not depend on a common scale, so 1e19 times the features is no reason for an infinite loss."""
    found = []
    for factor in (1.0, 2.0**63):
        torch.manual_seed(0)
        loss = build(name)
        student, teacher = (
            changed(features, lambda values, factor=factor: factor * values)
            for features in (student_features(), teacher_features())
        )
        value = loss.compute(student, teacher, make_batch())
        value.backward()
        assert all(bool(t.grad.isfinite().all()) for t in tensors(student) if t.grad is not None)
        found.append(value.detach())
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-7)


def test_dkd_of_one_class_is_zero():
    loss, student = build("dkd"), torch.randn(4, 1, requires_grad=True)
    value = sum(loss.terms(student, torch.randn(4, 1), torch.zeros(4, dtype=torch.long)).values())
    value.backward()
    assert float(value.detach()) == 0
    assert student.grad.eq(0).all()


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_does_not_overflow(name):
    torch.manual_seed(0)

    def large(values: Tensor) -> Tensor:
        return (values.clamp(-2, 2) * 3e4).half()

    student, teacher = (changed(features, large) for features in (student_features(), teacher_features()))
    assert max(values.abs().max() for values in tensors(student)) > 5e4
    loss = build(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = loss.compute(student, teacher, make_batch())
    assert value.dtype == torch.float32
    assert value.isfinite()
    value.backward()
    assert all(p.grad.isfinite().all() for p in loss.parameters() if p.grad is not None)
