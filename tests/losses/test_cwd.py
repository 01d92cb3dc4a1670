"""Channel-wise distillation against a slow transcription, and facts of the method."""

from __future__ import annotations

import math

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses.cwd import ChannelWiseLoss
from tests.losses.test_nkd import softmax


def maps(channels: int = 3) -> torch.Tensor:
    return torch.randn(2, 2, channels, 3, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_is_the_formula(temperature):
    student, teacher = maps()
    expected, count = 0.0, 0
    for own, other in zip(student.flatten(0, 1), teacher.flatten(0, 1)):
        q, p = (softmax([value / temperature for value in one.flatten().tolist()]) for one in (own, other))
        expected += temperature**2 * sum(a * math.log(a / b) for a, b in zip(p, q))
        count += 1
    value = ChannelWiseLoss(3, 3, temperature=temperature)(student, teacher)
    assert value.item() == pytest.approx(expected / count, rel=1e-12)


def test_a_constant_added_to_a_channel_does_not_count():
    student, teacher = maps()
    loss = ChannelWiseLoss(3, 3)
    shifted = student + torch.arange(3.0)[:, None, None]
    torch.testing.assert_close(loss(shifted, teacher), loss(student, teacher), rtol=1e-12, atol=0)


def test_widths_and_sizes_may_differ():
    loss = ChannelWiseLoss(3, 5)
    assert [parameter.shape for parameter in loss.parameters()] == [(5, 3, 1, 1)]
    assert loss(torch.randn(2, 3, 8, 8), torch.randn(2, 5, 4, 4)).shape == ()
    assert not list(ChannelWiseLoss(3, 3).parameters())


def test_the_temperature_must_be_positive():
    with pytest.raises(PursuhintError, match="temperature"):
        ChannelWiseLoss(3, 3, temperature=0.0)
