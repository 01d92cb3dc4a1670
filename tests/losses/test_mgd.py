"""Masked generative distillation: the formula, its masks, and what may be chosen."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.masks import hashed_uniform
from pursuhint.losses.mgd import MaskedGenerativeLoss

INDICES = torch.tensor([4, 0, 900, 17])


def maps(channels: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(4, channels, 3, 5, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("masked", ["channels", "positions"])
@pytest.mark.parametrize("widths", [(3, 5), (5, 5)])
def test_is_the_formula(masked, widths):
    torch.manual_seed(0)
    loss = MaskedGenerativeLoss([widths[0]], [widths[1]], mask_ratio=0.5, masked=masked).double()
    student, teacher = maps(widths[0]), maps(widths[1], 1)
    hint = loss.hints[0]
    aligned = student if widths[0] == widths[1] else F.conv2d(student, hint.align.weight, hint.align.bias)
    expected = 0.0
    for sample in range(4):
        mask = loss.mask(aligned, INDICES, 0)[sample]
        assert mask.unique().tolist() == [0, 1]
        x = (aligned[sample] * mask)[None]
        x = F.conv2d(x, hint.conv1.weight, hint.conv1.bias, padding=1).clamp_min(0)
        x = F.conv2d(x, hint.conv2.weight, hint.conv2.bias, padding=1)
        expected += (x[0] - teacher[sample]).square().sum() / 4
    torch.testing.assert_close(loss([student], [teacher], INDICES), expected, rtol=1e-11, atol=0)


def test_masks_follow_the_sample_and_change_with_the_epoch_and_the_pair():
    loss = MaskedGenerativeLoss([64, 64], [64, 64], mask_ratio=0.5)
    features = torch.randn(4, 64, 2, 2)
    first = loss.mask(features, INDICES, 0)
    order = torch.tensor([2, 0, 3, 1])
    assert torch.equal(loss.mask(features, INDICES[order], 0), first[order])
    assert not torch.equal(loss.mask(features, INDICES, 1), first)
    loss.begin_epoch(1, 240)
    assert not torch.equal(loss.mask(features, INDICES, 0), first)
    loss.begin_epoch(0, 240)
    assert torch.equal(loss.mask(features, INDICES, 0), first)


def test_runs_of_one_seed_have_the_same_masks_and_others_have_others():
    def masks(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return MaskedGenerativeLoss([64], [64], mask_ratio=0.5).mask(torch.zeros(4, 64, 1, 1), INDICES, 0)

    assert torch.equal(masks(5), masks(5))
    assert not torch.equal(masks(5), masks(6))


def test_the_share_that_is_masked_is_as_asked():
    loss = MaskedGenerativeLoss([512], [512], mask_ratio=0.15)
    kept = loss.mask(torch.zeros(400, 512, 1, 1), torch.arange(400), 0)
    assert kept.mean().item() == pytest.approx(0.85, abs=0.004)
    by_channel, by_sample = kept.mean(0).flatten(), kept.mean(1).flatten()
    assert by_channel.std() < 0.022  # 0.0179 for independent draws
    assert by_sample.std() < 0.020  # 0.0158


def test_hashed_numbers_are_uniform_and_independent():
    numbers = hashed_uniform(torch.arange(2000), 50, seed=3).double()
    counts = torch.histc(numbers, 20, 0, 1)
    assert ((counts - 5000).square() / 5000).sum() < 44  # chi-squared, 19 degrees of freedom, p = 0.001
    assert torch.corrcoef(numbers.T).fill_diagonal_(0).abs().max() < 0.1
    assert torch.corrcoef(numbers[:100]).fill_diagonal_(0).abs().max() < 0.7
    assert hashed_uniform(torch.tensor([2**40]), 4, seed=2**31 - 1).shape == (1, 4)


@pytest.mark.parametrize("ratio", [-0.1, 1.0])
def test_the_share_must_be_below_one(ratio):
    with pytest.raises(PursuhintError, match="mask_ratio"):
        MaskedGenerativeLoss([3], [3], mask_ratio=ratio)


def test_mixed_images_are_accepted():
    MaskedGenerativeLoss.check_mixed_images()
