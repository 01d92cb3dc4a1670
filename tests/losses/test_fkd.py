"""FKD: cosines between samples, and short embeddings."""

from __future__ import annotations

import math

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.fkd import FeatureKernelLoss, feature_kernel


@pytest.fixture
def embeddings():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(5, width, generator=generator, dtype=torch.float64) for width in (3, 6, 4)]


def cosine(u, v):
    return float(u @ v) / math.sqrt(float(u @ u) * float(v @ v))


@pytest.mark.parametrize("teachers", [1, 2])
def test_equals_the_formula_as_a_loop(embeddings, teachers):
    student, *others = embeddings[: 1 + teachers]
    kernel = 0.0
    for i in range(5):
        for j in range(5):
            if i != j:
                wanted = sum(cosine(other[i], other[j]) for other in others) / teachers
                kernel += (cosine(student[i], student[j]) - wanted) ** 2
    length = sum(float(row @ row) for row in student) / 5
    loss = FeatureKernelLoss(kernel_weight=3.0, length_weight=0.2)
    assert loss(student, *others).item() == pytest.approx(3 * kernel / 20 + 0.2 * length, rel=1e-12)


def test_lengths_need_not_be_squared(embeddings):
    student, teacher, _ = embeddings
    term = FeatureKernelLoss(length="plain", length_weight=0.2).terms(student, teacher)["length"]
    assert term.item() == pytest.approx(0.2 * sum(math.sqrt(float(row @ row)) for row in student) / 5)


def test_length_and_rotation_do_not_matter_to_the_kernel(embeddings):
    student, teacher, _ = embeddings
    loss = FeatureKernelLoss(length_weight=0.0)
    rotation = torch.linalg.qr(torch.randn(3, 3, dtype=torch.float64)).Q
    torch.testing.assert_close(loss(5 * student @ rotation, teacher), loss(student, teacher))


def test_a_student_like_its_teacher_keeps_only_its_length(embeddings):
    student = embeddings[0]
    terms = FeatureKernelLoss().terms(student, student)
    assert terms["kernel"].item() == pytest.approx(0, abs=1e-30)
    torch.testing.assert_close(terms["length"], 1e-3 * student.square().sum(1).mean())


def test_one_sample_has_no_pairs(embeddings):
    loss = FeatureKernelLoss()
    assert loss.terms(embeddings[0][:1], embeddings[1][:1])["kernel"].item() == 0


def test_dead_and_equal_samples_stay_finite(embeddings):
    student = embeddings[0].float()
    student[0] = 0
    student[2] = student[1]
    student.requires_grad_()
    value = FeatureKernelLoss()(student, embeddings[1].float())
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()
    assert feature_kernel(student)[0].abs().max() == 0


def test_refuses_negative_weights():
    with pytest.raises(PursuhintError, match="kernel_weight must not be negative"):
        FeatureKernelLoss(kernel_weight=-1.0)
