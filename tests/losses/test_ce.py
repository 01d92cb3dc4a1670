"""Cross-entropy with the labels, smoothed or not."""

from __future__ import annotations

import math

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.ce import CrossEntropyLoss

LABELS = [2, 0, 1, 2]


def logits():
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9])
def test_is_the_formula(smoothing):
    total = 0.0
    for row, label in zip(logits().tolist(), LABELS):
        normalizer = math.log(sum(math.exp(score) for score in row))
        for index, score in enumerate(row):
            target = smoothing / len(row) + (1 - smoothing) * (index == label)
            total -= target * (score - normalizer) / len(LABELS)
    loss = CrossEntropyLoss(label_smoothing=smoothing)
    assert loss(logits(), torch.tensor(LABELS)).item() == pytest.approx(total, rel=1e-12)


def test_losses_of_two_views_are_added():
    loss, labels, second = (
        CrossEntropyLoss(label_smoothing=0.1),
        torch.tensor(LABELS),
        torch.sin(2 * logits()),
    )
    expected = loss(logits(), labels) + loss(second, labels)
    assert loss(logits(), labels, second).item() == pytest.approx(expected.item(), rel=1e-15)


def test_is_least_at_the_smoothed_target():
    target = torch.tensor([0.1, 0.1, 0.8], dtype=torch.float64)  # smoothing 0.3 over three classes
    scores = target.log()[None].requires_grad_()
    value = CrossEntropyLoss(label_smoothing=0.3)(scores, torch.tensor([2]))
    value.backward()
    assert value.item() == pytest.approx(-(target * target.log()).sum().item())
    assert scores.grad.abs().max() < 1e-15


def test_is_the_classification_term_itself():
    assert CrossEntropyLoss.info.contains_classification
    assert not CrossEntropyLoss.info.needs_teacher


@pytest.mark.parametrize("smoothing", [-0.1, 1.0, float("nan")])
def test_refuses_a_smoothing_that_leaves_no_target(smoothing):
    with pytest.raises(PursuhintError, match=r"label_smoothing must be in \[0, 1\), got"):
        CrossEntropyLoss(label_smoothing=smoothing)
