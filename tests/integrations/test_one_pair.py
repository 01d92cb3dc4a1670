"""A loss of one pair by name."""

from __future__ import annotations

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.integrations import pair_loss
from pursuhint.losses import LOSSES, get_loss
from pursuhint.losses.base import HintLoss
from tests.integrations.conftest import pair

PAIRS = [name for name in LOSSES if issubclass(get_loss(name), HintLoss)]
REFUSED = {"ab": "warm-up", "ft": "warm-up", "ofd": "margins"}  # those of OFD are in the teacher itself


@pytest.mark.parametrize("name", PAIRS)
def test_every_loss_of_pairs_compares_features_or_says_why_not(name):
    *_, plan = pair()
    student, teacher = plan.student_points[1], plan.teacher_points[1]
    if name in REFUSED:
        with pytest.raises(PursuhintError, match=REFUSED[name]):
            pair_loss(name)(student, teacher)
        return
    loss = pair_loss(name)(student, teacher)
    features = [torch.rand(6, point.channels, *point.spatial) for point in (student, teacher)]
    value = loss(features[0].requires_grad_(), features[1])
    value.backward()
    assert value.ndim == 0
    assert features[0].grad.abs().sum() > 0


def test_other_losses_and_options_are_refused():
    assert len(PAIRS) > 8
    with pytest.raises(PursuhintError, match="no loss of single pairs"):
        pair_loss("kd")
    with pytest.raises(PursuhintError, match="no hyperparameter 'q'"):
        pair_loss("at", q=1)
