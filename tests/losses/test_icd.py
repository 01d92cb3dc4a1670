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
    loss, inputs = make(InvariantConsistencyLoss, alpha=alpha), embeddings(samples)
    expected = slow(loss, *inputs, math.e, 0.0, representations=True)
    found = [term.item() for term in loss.terms(*inputs).values()]
    torch.testing.assert_close(found, list(expected), rtol=1e-7, atol=1e-14)
    torch.testing.assert_close(loss(*inputs).item(), sum(expected), rtol=1e-7, atol=1e-14)


def test_with_similarities_it_is_dcd():
    loss = make(InvariantConsistencyLoss, distribution="similarities")
    assert loss(*embeddings()) == make()(*embeddings())


def test_the_entries_are_compared_whoever_the_others_are():
    loss, (student, teacher) = make(InvariantConsistencyLoss), embeddings()
    alone = [loss.terms(student[[i]], teacher[[i]])["invariance"] for i in range(len(student))]
    torch.testing.assert_close(loss.terms(student, teacher)["invariance"], torch.stack(alone).mean())


def test_refuses_other_distributions():
    with pytest.raises(PursuhintError, match="distribution must be one of representations, similarities"):
        make(InvariantConsistencyLoss, distribution="logits")
