from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses.itrd import InformationTheoreticLoss


def make(widths=(3, 5), **options) -> InformationTheoreticLoss:
    torch.manual_seed(0)
    return InformationTheoreticLoss(*widths, **options).double()


def embeddings(samples=4, widths=(3, 5)):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(samples, width, generator=generator, dtype=torch.float64) for width in widths]


@torch.no_grad()
def slow(loss, student, teacher):
    mapped = [(loss.student_embed.weight @ e + loss.student_embed.bias).tolist() for e in student]
    targets = teacher.tolist()
    b, d = len(targets), len(targets[0])

    def column(rows, k):
        values = [row[k] for row in rows]
        mean = sum(values) / b
        deviation = math.sqrt(sum((value - mean) ** 2 for value in values) / (b - 1))
        return [(value - mean) / deviation for value in values]

    total = 0.0
    for k in range(d):
        c = sum(x * y for x, y in zip(column(mapped, k), column(targets, k))) / b
        total += (abs(c - 1) ** 2) ** loss.alpha

    def cosines(rows):
        lengths = [math.sqrt(sum(x * x for x in row)) for row in rows]
        return [
            [sum(x * y for x, y in zip(rows[i], rows[j])) / lengths[i] / lengths[j] for j in range(b)]
            for i in range(b)
        ]

    g_s = cosines(student.tolist() if student.shape == teacher.shape else mapped)
    g_t = cosines(targets)
    g = [[g_s[i][j] * g_t[i][j] for j in range(b)] for i in range(b)]

    def purity(matrix):
        trace = sum(matrix[i][i] for i in range(b))
        return sum((value / trace) ** 2 for row in matrix for value in row)

    return loss.correlation_weight * math.log2(total), loss.mutual_weight * (purity(g_s) - purity(g))


@pytest.mark.parametrize("widths", [(3, 5), (5, 5), (6, 2)])
@pytest.mark.parametrize(
    "options", [{}, {"alpha": 1.01, "mutual_weight": 1.0}, {"correlation_weight": 0.5, "alpha": 3.0}]
)
@pytest.mark.parametrize("samples", [2, 7])
def test_is_the_formula(widths, options, samples):
    loss, inputs = make(widths, **options), embeddings(samples, widths)
    terms = loss.terms(*inputs)
    expected = slow(loss, *inputs)
    assert list(terms) == ["correlation", "mutual"]
    torch.testing.assert_close(
        [term.item() for term in terms.values()], list(expected), rtol=1e-10, atol=1e-13
    )
    torch.testing.assert_close(loss(*inputs).item(), sum(expected), rtol=1e-10, atol=1e-13)


def test_correlation_alone():
    loss, inputs = make(mutual_weight=0.0), embeddings()
    assert list(loss.terms(*inputs)) == ["correlation"]
    torch.testing.assert_close(loss(*inputs).item(), slow(loss, *inputs)[0])


def test_floor_is_reached_by_the_teachers_embedding():
    loss = make((5, 5))
    torch.nn.init.eye_(loss.student_embed.weight)
    torch.nn.init.zeros_(loss.student_embed.bias)
    teacher = embeddings(8)[1]
    floor = 2 * math.log2(5 * 8**-3)
    torch.testing.assert_close(loss.terms(teacher, teacher)["correlation"].item(), floor)
    torch.testing.assert_close(loss.terms(3 * teacher + 2, teacher)["correlation"].item(), floor)
    other = embeddings(8)[1].flip(0)
    assert loss.terms(other, teacher)["correlation"] > floor


@pytest.mark.parametrize("widths", [(3, 5), (5, 5)])
@pytest.mark.parametrize("what", ["dead units", "constant units", "zero samples", "all zero", "one sample"])
def test_degenerate_batches_are_finite(widths, what):
    loss = make(widths, mutual_weight=1.0)
    student, teacher = embeddings(1 if what == "one sample" else 4, widths)
    if what == "dead units":
        student[:, 0], teacher[:, 1] = 0, 0
        loss.student_embed.weight.data[2] = 0
    elif what == "constant units":
        student[:], teacher[:, 1] = 0.1, 1 / 3
    elif what == "zero samples":
        student[1], teacher[2] = 0, 0
        torch.nn.init.zeros_(loss.student_embed.bias)
    elif what == "all zero":
        student.zero_(), teacher.zero_()
        torch.nn.init.zeros_(loss.student_embed.bias)
    value = loss(student.requires_grad_(), teacher)
    value.backward()
    assert value.isfinite()
    gradients = [student.grad, *(parameter.grad for parameter in loss.parameters())]
    assert all(gradient.abs().max() < 1e3 for gradient in gradients)


def test_dead_units_leave_the_others_alone():
    loss, (student, teacher) = make((5, 5), mutual_weight=0.0), embeddings(6, (5, 5))
    torch.nn.init.eye_(loss.student_embed.weight)
    alive = teacher.clone()
    alive[:, 4] = 7.0
    c = [torch.corrcoef(torch.stack([student[:, k], teacher[:, k]]))[0, 1] * 5 / 6 for k in range(5)]
    expected = 2 * math.log2(sum(float(1 - value) ** 3 for value in c))
    torch.testing.assert_close(loss(student, teacher).item(), expected)
    dead = 2 * math.log2(sum(float(1 - value) ** 3 for value in c[:4]) + 1)
    torch.testing.assert_close(loss(student, alive).item(), dead)


def test_says_what_is_wrong():
    student, teacher = embeddings()
    with pytest.raises(PursuhintError, match="different batches: 3 and 4"):
        make()(student, teacher[:3])
    for options in ({"correlation_weight": -1.0}, {"mutual_weight": -1.0}, {"alpha": 0.0}):
        with pytest.raises(PursuhintError, match=next(iter(options))):
            make(**options)


@torch.no_grad()
@pytest.mark.parametrize("widths", [(3, 5), (5, 5)])
def test_mutual_information_with_the_logarithms_of_the_paper(widths):
    loss, (student, teacher) = make(widths, mutual_weight=0.5, mutual_logarithms=True), embeddings(4, widths)
    own = student if widths[0] == widths[1] else loss.student_embed(student)
    first, second = (F.normalize(rows, dim=1) @ F.normalize(rows, dim=1).T / 4 for rows in (own, teacher))

    def entropy(matrix):  # of order 2, from the eigenvalues
        return -math.log2(torch.linalg.eigvalsh(matrix).square().sum())

    expected = 0.5 * (entropy(first * second / (first * second).trace()) - entropy(first))
    assert loss.terms(student, teacher)["mutual"].item() == pytest.approx(expected, rel=1e-12)
    nothing = loss.terms(torch.zeros_like(student), torch.zeros_like(teacher))["mutual"]
    assert nothing.isfinite()
