"""One-for-all distillation against a slow transcription; its exits and what they are built for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pursuhint.errors import PursuhintError
from pursuhint.losses.ofa import OneForAllLoss
from tests.losses.test_nkd import LABELS, logits, softmax


def slow(student, teacher, labels, gamma, temperature):
    total = 0.0
    for z_s, z_t, y in zip(student.tolist(), teacher.tolist(), labels.tolist()):
        p, q = (softmax([score / temperature for score in z]) for z in (z_t, z_s))
        for k, (a, b) in enumerate(zip(p, q)):
            total -= ((a + (k == y)) ** gamma - (k == y)) * math.log(b)
    return total / len(labels)


@pytest.mark.parametrize(("gamma", "temperature"), [(1.0, 1.0), (1.5, 1.0), (1.3, 2.0)])
def test_of_the_logits_alone_is_the_formula(gamma, temperature):
    loss = OneForAllLoss([], 7, gamma=gamma, temperature=temperature)
    value = loss(*logits(), LABELS)
    assert value.item() == pytest.approx(slow(*logits(), LABELS, gamma, temperature), rel=1e-12)


def test_exits_are_compared_as_the_logits_are():
    torch.manual_seed(0)
    loss = OneForAllLoss([(4, (8, 8)), (6, (3, 3))], 7, gamma=1.5, final_gamma=1.0).double()
    maps = [torch.randn(5, 4, 8, 8).double(), torch.randn(5, 6, 3, 3).double()]
    terms = loss.terms(*logits(), LABELS, maps)
    assert list(terms) == ["final", "exit_0", "exit_1"]
    student, teacher = logits()
    exits = [exit_(features) for exit_, features in zip(loss.exits, maps)]
    for term, own, gamma in zip(terms.values(), (student, *exits), (1.0, 1.5, 1.5)):
        assert term.item() == pytest.approx(slow(own, teacher, LABELS, gamma, 1.0), rel=1e-11)


@pytest.mark.parametrize(
    ("size", "halvings"), [((32, 32), 2), ((8, 8), 0), ((4, 4), 0), ((16, 8), 1), ((33, 8), 3)]
)
def test_an_exit_halves_maps_down_to_the_size_of_the_last(size, halvings):
    loss = OneForAllLoss([(4, size), (6, (8, 8))], 7)
    convolutions = [module for module in loss.exits[0].modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(convolutions) == halvings
    assert loss.exits[0].classifier.in_features == 4 * 2**halvings
    assert loss.exits[0](torch.randn(2, 4, *size)).shape == (2, 7)


def test_tokens_and_vectors_have_exits_too():
    loss = OneForAllLoss([(4, (17,)), (6, ())], 7)
    values = loss.terms(*logits(), LABELS, [torch.randn(5, 17, 4), torch.randn(5, 6)])
    assert len(values) == 3


@pytest.mark.parametrize("options", [{"gamma": 0.0}, {"final_gamma": -1.0}, {"temperature": 0.0}])
def test_values_out_of_range_are_refused(options):
    with pytest.raises(PursuhintError, match="must be positive"):
        OneForAllLoss([], 7, **options)
