"""DCD, and ICD, of which it is the later form."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses.dcd import DiscriminativeConsistentLoss
from pursuhint.losses.icd import InvariantConsistencyLoss


def make(kind=DiscriminativeConsistentLoss, widths=(5, 7), **options):
    torch.manual_seed(0)
    return kind(*widths, **{"width": 4, **options}).double()


def embeddings(samples=4):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(samples, width, generator=generator, dtype=torch.float64) for width in (5, 7)]


def unit(vector):
    return vector / math.sqrt(sum(float(x) ** 2 for x in vector))


def softmax(scores):
    total = sum(math.exp(score) for score in scores)
    return [math.exp(score) / total for score in scores]


def divergence(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q))


@torch.no_grad()
def slow(loss, student, teacher, scale, bias, representations=False):
    u = [unit(loss.student_embed.weight @ e + loss.student_embed.bias) for e in student]
    v = [unit(loss.teacher_embed.weight @ e + loss.teacher_embed.bias) for e in teacher]
    scores = [[scale * float(a @ b) + bias for b in v] for a in u]
    rows = [softmax(row) for row in scores]
    columns = [softmax([row[j] for row in scores]) for j in range(len(v))]
    n = len(u)
    contrastive = -sum(math.log(rows[i][i]) for i in range(n)) / n
    if representations:
        penalty = sum(divergence(softmax(b.tolist()), softmax(a.tolist())) for a, b in zip(u, v)) / n
    else:
        penalty = sum(divergence(columns[i], rows[i]) for i in range(n)) / n
    return contrastive, loss.alpha * penalty


@pytest.mark.parametrize("samples", [1, 2, 5])
@pytest.mark.parametrize(
    ("options", "scale", "bias"),
    [
        ({}, math.e, 0.0),
        ({"initial_log_scale": 0.3, "initial_bias": 2.0, "alpha": 0.1}, math.exp(0.3), 2.0),
        ({"max_scale": 1.5}, 1.5, 0.0),
        ({"trainable_scale": False}, 0.07, 0.0),
        ({"trainable_scale": False, "fixed_scale": 14.3}, 14.3, 0.0),
    ],
)
def test_is_the_formula(samples, options, scale, bias):
    loss, inputs = make(**options), embeddings(samples)
    terms = loss.terms(*inputs)
    expected = slow(loss, *inputs, scale, bias)
    assert list(terms) == ["contrastive", "invariance"]
    torch.testing.assert_close(
        [term.item() for term in terms.values()], list(expected), rtol=1e-7, atol=1e-14
    )
    torch.testing.assert_close(loss(*inputs).item(), sum(expected), rtol=1e-7, atol=1e-14)


@pytest.mark.parametrize("kind", [DiscriminativeConsistentLoss, InvariantConsistencyLoss])
def test_equal_views_have_no_invariance_to_restore(kind):
    loss = make(kind, widths=(7, 7))
    loss.student_embed.load_state_dict(loss.teacher_embed.state_dict())
    teacher = embeddings()[1]
    assert loss.terms(teacher, teacher)["invariance"].abs() < 1e-15
    orthogonal = copy.deepcopy(loss)
    for layer in (orthogonal.student_embed, orthogonal.teacher_embed):
        layer.weight.data = torch.eye(4, 7).double()
        layer.bias.data.zero_()
    clear = orthogonal(torch.eye(4, 7).double(), torch.eye(4, 7).double())
    torch.testing.assert_close(clear.item(), math.log1p(3 * math.exp(-math.e)), rtol=1e-7, atol=0)


def test_the_scale_stops_at_its_bound():
    for start in (5.0, 1e6):  # beyond the range of the exponential, too
        loss = make(initial_log_scale=start)
        value = loss(*embeddings())
        value.backward()
        assert value.isfinite()
        assert loss.log_scale.grad == 0
        torch.testing.assert_close(value, make(trainable_scale=False, fixed_scale=10.0)(*embeddings()))
    loss = make()
    loss(*embeddings()).backward()
    assert loss.log_scale.grad != 0
    assert loss.bias.grad.abs() < 1e-14


def test_a_fixed_scale_learns_nothing():
    assert {name.split(".")[0] for name, _ in make(trainable_scale=False).named_parameters()} == {
        "student_embed",
        "teacher_embed",
    }


@pytest.mark.parametrize("kind", [DiscriminativeConsistentLoss, InvariantConsistencyLoss])
def test_zero_embeddings_have_finite_gradients(kind):
    loss, (student, teacher) = make(kind), embeddings()
    for layer in (loss.student_embed, loss.teacher_embed):
        torch.nn.init.zeros_(layer.bias)
    student[1], teacher[2] = 0, 0
    loss(student.requires_grad_(), teacher).backward()
    assert student.grad.abs().max() < 1e3


def test_saturated_similarities_are_finite():
    loss, inputs = make(trainable_scale=False, fixed_scale=1e4).float(), embeddings()
    student, teacher = (values.float() for values in inputs)
    value = loss(student.requires_grad_(), teacher)
    value.backward()
    assert value.isfinite()
    assert F.normalize(student.grad).isfinite().all()


def test_says_what_is_wrong():
    student, teacher = embeddings()
    with pytest.raises(PursuhintError, match="different batches: 3 and 4"):
        make()(student, teacher[:3])
    for options in ({"alpha": -1.0}, {"max_scale": 0.0}, {"fixed_scale": 0.0}, {"width": 0}):
        with pytest.raises(PursuhintError, match=next(iter(options))):
            make(**options)
