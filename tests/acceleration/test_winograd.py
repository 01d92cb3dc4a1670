"""Winograd's convolution is the convolution."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pursuhint.acceleration.winograd import WinogradConv2d, use_winograd


@pytest.mark.parametrize("size", [(8, 8), (4, 12), (6, 8), (32, 32)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_convolution(size: tuple[int, int], bias: bool) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(5, 7, 3, padding=1, bias=bias).double()
    images = torch.randn(3, 5, *size, dtype=torch.float64)
    for form in (torch.contiguous_format, torch.channels_last):
        found = WinogradConv2d(conv)(images.contiguous(memory_format=form))
        torch.testing.assert_close(found, conv(images), rtol=1e-10, atol=1e-10)


def test_it_rounds_a_little_more_coarsely_in_float32() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(128, 128, 3, padding=1)
    images = torch.randn(2, 128, 8, 8)
    expected = conv.double()(images.double())
    found = WinogradConv2d(conv.float())(images)
    assert (found - expected).norm() < 3e-6 * expected.norm()


@pytest.mark.parametrize(
    ("conv", "replaced"),
    [
        (nn.Conv2d(128, 256, 3, padding=1), True),
        (nn.Conv2d(128, 128, 3, padding="same"), True),
        (nn.Conv2d(64, 128, 3, padding=1), False),
        (nn.Conv2d(128, 128, 3), False),
        (nn.Conv2d(128, 128, 3, padding=1, stride=2), False),
        (nn.Conv2d(128, 128, 3, padding=2, dilation=2), False),
        (nn.Conv2d(128, 128, 3, padding=1, groups=2), False),
        (nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect"), False),
        (nn.Conv2d(128, 128, 1), False),
    ],
)
def test_only_wide_plain_convolutions_are_replaced(conv: nn.Conv2d, replaced: bool) -> None:
    network = nn.Sequential(conv)
    use_winograd(network)
    assert isinstance(network[0], WinogradConv2d) == replaced
