"""Normalized KD against a slow transcription, and facts of the method."""

from __future__ import annotations

import math

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.nkd import NormalizedKnowledgeLoss

LABELS = torch.tensor([0, 6, 3, 3, 1])


def logits() -> torch.Tensor:
    return 3 * torch.randn(2, 5, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def softmax(scores):
    total = sum(math.exp(score) for score in scores)
    return [math.exp(score) / total for score in scores]


def slow(student, teacher, labels, gamma, temperature):
    target = others = 0.0
    for z_s, z_t, y in zip(student.tolist(), teacher.tolist(), labels.tolist()):
        target -= softmax(z_t)[y] * math.log(softmax(z_s)[y])
        p, q = ([score / temperature for k, score in enumerate(z) if k != y] for z in (z_t, z_s))
        others -= sum(a * math.log(b) for a, b in zip(softmax(p), softmax(q)))
    return target / len(labels), gamma * temperature**2 * others / len(labels)


@pytest.mark.parametrize(("gamma", "temperature"), [(1.5, 1.0), (3.5, 3.0), (0.0, 2.0)])
def test_is_the_formula(gamma, temperature):
    loss = NormalizedKnowledgeLoss(gamma=gamma, temperature=temperature)
    terms = loss.terms(*logits(), LABELS)
    assert list(terms) == ["target", "non_target"]
    expected = slow(*logits(), LABELS, gamma, temperature)
    assert [term.item() for term in terms.values()] == pytest.approx(expected, rel=1e-12)


def test_the_others_do_not_depend_on_how_likely_the_label_is():
    student, teacher = logits()
    surer = student.scatter_add(1, LABELS[:, None], torch.full((5, 1), 4.0).double())
    loss = NormalizedKnowledgeLoss()
    one, other = (loss.terms(own, teacher, LABELS)["non_target"] for own in (student, surer))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


@pytest.mark.parametrize("options", [{"gamma": -1.0}, {"temperature": 0.0}])
def test_values_out_of_range_are_refused(options):
    with pytest.raises(PursuhintError, match=next(iter(options))):
        NormalizedKnowledgeLoss(**options)
