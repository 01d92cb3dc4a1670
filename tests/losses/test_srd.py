"""Simple recipe distillation against a slow transcription, and facts of the method."""

from __future__ import annotations

import math

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.srd import SimpleRecipeLoss


def embeddings() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(6, width, generator=generator, dtype=torch.float64) for width in (3, 5))


def normalized(rows, eps):
    columns = []
    for column in zip(*rows.tolist()):
        mean = sum(column) / len(column)
        variance = sum((value - mean) ** 2 for value in column) / len(column)
        columns.append([(value - mean) / math.sqrt(variance + eps) for value in column])
    return columns


@pytest.mark.parametrize("power", [4.0, 2.0, 3.0])
def test_the_difference_is_the_formula(power):
    torch.manual_seed(0)
    loss = SimpleRecipeLoss(3, 5, power=power).double()
    student, teacher = embeddings()
    u, v = normalized(student @ loss.embed.weight.T, 1e-4), normalized(teacher, 1e-4)
    total = sum(abs(a - b) ** power for own, other in zip(u, v) for a, b in zip(own, other))
    assert loss(student, teacher).item() == pytest.approx(2 * math.log(total), rel=1e-12)


def test_the_correlation_is_the_formula():
    torch.manual_seed(0)
    loss = SimpleRecipeLoss(3, 5, variant="correlation").double()
    student, teacher = embeddings()
    u, v = normalized(student @ loss.embed.weight.T, 0), normalized(teacher, 0)
    c = [sum(a * b for a, b in zip(own, other)) / len(own) for own, other in zip(u, v)]
    expected = math.log(sum(abs(value - 1) ** 4 for value in c) + 1e-5)
    assert loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("variant", ["difference", "correlation"])
def test_scale_and_shift_of_a_feature_do_not_count(variant):
    torch.manual_seed(0)
    loss = SimpleRecipeLoss(3, 5, variant=variant, norm_eps=1e-30).double()
    student, teacher = embeddings()
    changed = 7 * teacher - 2
    torch.testing.assert_close(loss(student, teacher), loss(student, changed), rtol=1e-10, atol=1e-10)


def test_without_eps_a_feature_that_does_not_vary_counts_as_uncorrelated():
    """The authors' batch norm divides by zero there; a teacher behind ReLUs has such features."""
    torch.manual_seed(0)
    loss = SimpleRecipeLoss(3, 5, variant="correlation").double()
    student, teacher = embeddings()
    teacher[:, 1] = 0.3
    student.requires_grad_()
    value = loss(student, teacher)
    value.backward()
    u, v = normalized(student.detach() @ loss.embed.weight.T, 0), normalized(teacher, 1e-300)
    c = [0 if d == 1 else sum(a * b for a, b in zip(u[d], v[d])) / 6 for d in range(5)]
    assert value.item() == pytest.approx(math.log(sum(abs(one - 1) ** 4 for one in c) + 1e-5), rel=1e-9)
    assert student.grad.isfinite().all()


@pytest.mark.parametrize("options", [{"power": 0.0}, {"norm_eps": -1.0}, {"eps": -1.0}, {"variant": "deit"}])
def test_values_out_of_range_are_refused(options):
    with pytest.raises(PursuhintError, match=next(iter(options))):
        SimpleRecipeLoss(3, 5, **options)
