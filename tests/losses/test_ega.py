from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.ega import EmbeddingGraphLoss


def embeddings(samples=4, widths=(6, 6)):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(samples, width, generator=generator, dtype=torch.float64) for width in widths]


def slow(student, teacher, node_weight=1.0, edge_weight=0.3):
    b = len(student)
    correlations = np.corrcoef(np.concatenate([teacher.numpy(), student.numpy()]))
    node = math.sqrt(sum((correlations[i, b + j] - (i == j)) ** 2 for i in range(b) for j in range(b)))
    edge = math.sqrt(
        sum((correlations[i, j] - correlations[b + i, b + j]) ** 2 for i in range(b) for j in range(b))
    )
    return node_weight * node, edge_weight * edge


@pytest.mark.parametrize("samples", [1, 2, 7])
@pytest.mark.parametrize("options", [{}, {"node_weight": 0.2, "edge_weight": 2.0}, {"edge_weight": 0.0}])
def test_is_the_formula(samples, options):
    loss, inputs = EmbeddingGraphLoss(6, 6, **options), embeddings(samples)
    terms = loss.terms(*inputs)
    expected = slow(*inputs, **options)
    assert list(terms) == ["node", "edge"]
    torch.testing.assert_close(
        [term.item() for term in terms.values()], list(expected), rtol=1e-11, atol=1e-14
    )
    torch.testing.assert_close(loss(*inputs).item(), sum(expected), rtol=1e-11, atol=0)
    assert not list(loss.parameters())


def test_other_widths_are_mapped_first():
    torch.manual_seed(0)
    loss, (student, teacher) = EmbeddingGraphLoss(3, 6).double(), embeddings(widths=(3, 6))
    mapped = loss.student_embed(student).detach()
    torch.testing.assert_close(loss(student, teacher).item(), sum(slow(mapped, teacher)))
    assert len(list(EmbeddingGraphLoss(6, 6, projection="always").parameters())) == 2
    with pytest.raises(PursuhintError, match="has 3 entries, the teacher's 6"):
        EmbeddingGraphLoss(3, 6, projection="never")


def test_teachers_embedding_has_no_edge_to_move():
    loss, (student, _) = EmbeddingGraphLoss(6, 6), embeddings()
    copy = (3 * student + 1).requires_grad_()
    terms = loss.terms(copy, student)
    assert terms["edge"] < 1e-14
    sum(terms.values()).backward()
    assert copy.grad.isfinite().all()
    same = student.clone().requires_grad_()
    loss.terms(same, student)["edge"].backward()
    assert same.grad.isfinite().all()


def test_orthogonal_embeddings_that_agree_have_no_loss():
    rows = torch.tensor([[1.0, -1, 0, 0], [0, 0, 1, -1], [1, 1, -1, -1]]).double().requires_grad_()
    value = EmbeddingGraphLoss(4, 4)(rows, rows.detach())
    assert value.abs() < 1e-15
    value.backward()
    assert rows.grad.isfinite().all()


@pytest.mark.parametrize("width", [6, 1])
def test_constant_embeddings_are_finite(width):
    loss, (student, teacher) = EmbeddingGraphLoss(width, width), embeddings(widths=(width, width))
    student[1], teacher[2] = 0.1, 0.0
    value = loss(student.requires_grad_(), teacher)
    value.backward()
    assert value.isfinite()
    assert student.grad.abs().max() < 1e3


def test_says_what_is_wrong():
    student, teacher = embeddings()
    with pytest.raises(PursuhintError, match="different batches: 3 and 4"):
        EmbeddingGraphLoss(6, 6)(student, teacher[:3])
    for options in ({"node_weight": -1.0}, {"edge_weight": -1.0}, {"projection": "maybe"}):
        with pytest.raises(PursuhintError, match=next(iter(options))):
            EmbeddingGraphLoss(6, 6, **options)
