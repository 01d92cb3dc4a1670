"""AML: the student's anchors among the teacher's samples."""

from __future__ import annotations

import math

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.aml import AsymmetricMetricLoss, asymmetric_contrast

LABELS = torch.tensor([0, 1, 0, 2, 1, 0])


@pytest.fixture
def embeddings():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(6, width, generator=generator, dtype=torch.float64) for width in (4, 4, 5)]


def unit(rows):
    return [row / row.norm() for row in rows]


def distance(first, second, eps):
    return math.sqrt(sum((float(x) - float(y) + eps) ** 2 for x, y in zip(first, second)))


@pytest.mark.parametrize(("margin", "negatives", "eps"), [(0.7, 5, 1e-6), (1.3, 2, 0.0), (1.9, 1, 1e-2)])
def test_equals_the_formula_as_a_loop(embeddings, margin, negatives, eps):
    student, teacher = unit(embeddings[0]), unit(embeddings[1])
    total = 0.0
    for i in range(6):
        others = sorted(
            (k for k in range(6) if LABELS[k] != LABELS[i]), key=lambda k: (student[i] - teacher[k]).norm()
        )
        for p in range(6):
            if p != i and LABELS[p] == LABELS[i]:
                total += 0.5 * distance(student[i], teacher[p], eps) ** 2
                for k in others[:negatives]:
                    total += 0.5 * max(0.0, margin - distance(student[i], teacher[k], eps)) ** 2
    loss = AsymmetricMetricLoss(4, 4, margin=margin, negatives=negatives, eps=eps)
    assert loss(embeddings[0], embeddings[1], LABELS).item() == pytest.approx(total, rel=1e-12)


def test_given_tuples_are_summed():
    anchors = torch.tensor([[1.0, 0.0]])
    members = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [-1.0, 0.0], [1.0, 0.1]]])
    mask = torch.tensor([[True, True, False]])
    value = asymmetric_contrast(anchors, members, mask, 0.5, 0.0)
    assert value.item() == pytest.approx(
        0.5 * 2 + 0.5 * 0.25
    )  # the far negative and the masked one add nothing


def test_widths_may_differ(embeddings):
    loss = AsymmetricMetricLoss(4, 5).double()
    loss(embeddings[0], embeddings[2], LABELS).backward()
    assert loss.projection.weight.grad.any()
    assert not list(AsymmetricMetricLoss(4, 4).parameters())


def test_the_teacher_gets_no_gradient_from_choosing(embeddings):
    student = embeddings[0].requires_grad_()
    AsymmetricMetricLoss(4, 4)(student, embeddings[1], LABELS).backward()
    assert student.grad.any()


def test_a_batch_without_a_pair_gives_zero(embeddings):
    student = embeddings[0].requires_grad_()
    value = AsymmetricMetricLoss(4, 4)(student, embeddings[1], torch.arange(6))
    value.backward()
    assert value.item() == 0
    assert not student.grad.any()
    one_class = AsymmetricMetricLoss(4, 4)(student, embeddings[1], torch.zeros(6, dtype=torch.long))
    assert one_class > 0  # no negatives, but positives


def test_equal_and_dead_samples_stay_finite(embeddings):
    student = embeddings[1].clone().float()
    student[3] = 0
    student.requires_grad_()
    loss = AsymmetricMetricLoss(4, 4, margin=2.0, eps=0.0)
    teacher = torch.cat([student.detach()[1:], student.detach()[:1]])
    value = loss(student, teacher, LABELS)
    value.backward()
    assert value.isfinite()
    assert student.grad.isfinite().all()


def test_the_reading_is_named():
    with pytest.raises(PursuhintError, match="reading must be"):
        AsymmetricMetricLoss.checked({"reading": "adversarial"})
    with pytest.raises(PursuhintError, match="negatives must be positive"):
        AsymmetricMetricLoss(4, 4, negatives=0)
