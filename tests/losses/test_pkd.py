"""PKD against a slow transcription, and facts of the method."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import pearsonr

from pursuhint.errors import PursuhintError
from pursuhint.losses.pkd import PearsonLoss
from tests.losses.test_cwd import maps


def test_is_one_minus_the_mean_correlation_of_the_channels():
    student, teacher = maps()
    correlations = [
        pearsonr(student[:, channel].flatten(), teacher[:, channel].flatten()).statistic
        for channel in range(3)
    ]
    value = PearsonLoss(3, 3, eps=1e-30)(student, teacher)
    assert value.item() == pytest.approx(1 - sum(correlations) / 3, rel=1e-12)


def test_is_the_formula_with_its_eps():
    def normalized(x):
        rows = x.transpose(0, 1).flatten(1)
        return (rows - rows.mean(1, keepdim=True)) / (rows.std(1, unbiased=False, keepdim=True) + 0.3)

    student, teacher = maps()
    expected = 0.5 * (normalized(student) - normalized(teacher)).square().mean()
    torch.testing.assert_close(PearsonLoss(3, 3, eps=0.3)(student, teacher), expected)


def test_a_positive_scale_and_a_shift_of_a_channel_do_not_count():
    student, teacher = maps()
    loss = PearsonLoss(3, 3, eps=1e-30)
    changed = student * torch.tensor([1.0, 9.0, 0.1])[:, None, None] + 5
    torch.testing.assert_close(loss(changed, teacher), loss(student, teacher), rtol=1e-12, atol=0)
    assert loss(-teacher, teacher).item() == pytest.approx(2)


def test_the_students_map_is_resized_to_the_teachers_size():
    loss = PearsonLoss(3, 5)
    assert loss(torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)).shape == ()
    assert loss(torch.randn(2, 3, 2, 2), torch.randn(2, 5, 4, 6)).shape == ()


def test_eps_must_be_positive():
    with pytest.raises(PursuhintError, match="eps"):
        PearsonLoss(3, 3, eps=0.0)
