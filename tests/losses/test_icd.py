"""ICD, of which DCD is the later form."""

from __future__ import annotations

import math

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.icd import InvariantConsistencyLoss
from tests.losses.test_dcd import embeddings, make, slow


@pytest.mark.parametrize("samples", [1, 2, 5])
@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_compares_the_entries_of_the_vectors(samples, alpha):
    loss = make(InvariantConsistencyLoss, distribution="representations", alpha=alpha)
    inputs = embeddings(samples)
    expected = slow(loss, *inputs, math.e, 0.0, representations=True)
    found = [term.item() for term in loss.terms(*inputs).values()]
    torch.testing.assert_close(found, list(expected), rtol=1e-7, atol=1e-14)
    torch.testing.assert_close(loss(*inputs).item(), sum(expected), rtol=1e-7, atol=1e-14)


def authors_objective(loss, student, teacher):
    """The loss of the authors' code, written as they write it: cosines, two softmaxes, one divergence."""
    u = torch.nn.functional.normalize(loss.student_embed(student))
    v = torch.nn.functional.normalize(loss.teacher_embed(teacher))
    logits = u @ v.T * loss.log_scale.exp().clamp(0, 10) + loss.bias
    targets = torch.arange(len(logits))
    contrast = torch.nn.functional.cross_entropy(logits, targets)
    p, q = torch.nn.functional.log_softmax(logits, dim=1), torch.softmax(logits, dim=0).T
    return contrast + loss.alpha * torch.nn.functional.kl_div(p, q, reduction="batchmean")


@pytest.mark.parametrize("samples", [1, 2, 5])
def test_the_default_is_the_objective_of_the_authors(samples):
    loss, inputs = make(InvariantConsistencyLoss), embeddings(samples)
    assert loss.distribution == "similarities"
    for options in ({}, {"distribution": "similarities"}):
        loss = make(InvariantConsistencyLoss, **options)
        torch.testing.assert_close(loss(*inputs), authors_objective(loss, *inputs), rtol=1e-12, atol=1e-14)
    assert loss(*inputs) == make()(*inputs)  # which DCD has kept
    if samples > 1:
        literal = make(InvariantConsistencyLoss, distribution="representations")
        assert literal(*inputs) != loss(*inputs)


def test_the_entries_are_compared_whoever_the_others_are():
    loss = make(InvariantConsistencyLoss, distribution="representations")
    student, teacher = embeddings()
    alone = [loss.terms(student[[i]], teacher[[i]])["invariance"] for i in range(len(student))]
    torch.testing.assert_close(loss.terms(student, teacher)["invariance"], torch.stack(alone).mean())


def test_refuses_other_distributions():
    with pytest.raises(PursuhintError, match="distribution must be one of similarities, representations"):
        make(InvariantConsistencyLoss, distribution="logits")
