"""Which batch norm made a feature."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.features.feature_norm import find_norm
from pursuhint.features.hint_points import find_hint_points


class Block(nn.Module):
    """A residual block that computes its shortcut first, and works in place."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1), nn.BatchNorm2d(after))
        self.conv1 = nn.Conv2d(before, after, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(after)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.shortcut(x)
        x = F.relu_(self.bn1(self.conv1(x)))
        x = self.dropout(self.bn2(self.conv2(x)))
        x += skip
        return F.relu_(x)


class Scaled(nn.Module):
    """A norm whose output is not added but multiplied."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.5 * self.bn(self.conv2(self.conv1(x)))


@pytest.fixture
def network():
    torch.manual_seed(0)
    layers = [Block(3, 4), Block(4, 4), Scaled(4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)]
    return nn.Sequential(*layers)


@pytest.mark.parametrize("activation", ["pre", "post"])
def test_it_is_that_of_the_longer_branch(network, activation):
    example = torch.randn(1, 3, 8, 8)
    points = find_hint_points(network, example, activation=activation)
    found = [find_norm(network, point, example) for point in points]
    assert found == [network[0].bn2, network[1].bn2, None]


def test_it_does_not_matter_what_the_example_shows_nor_what_is_frozen(network):
    network.requires_grad_(False)
    points = find_hint_points(network, torch.randn(1, 3, 8, 8))
    with torch.no_grad():
        assert find_norm(network, points[0], torch.zeros(2, 3, 8, 8)) is network[0].bn2


def test_looking_leaves_no_trace(network):
    example = torch.randn(1, 3, 8, 8)
    (point, *_) = find_hint_points(network, example)
    state, random = {k: v.clone() for k, v in network.state_dict().items()}, torch.get_rng_state()
    find_norm(network, point, example)
    assert all(torch.equal(state[key], value) for key, value in network.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random)
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())
    assert all(parameter.grad is None for parameter in network.parameters())


def test_networks_without_norms_have_none():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten())
    network.append(nn.Linear(4 * 16, 2))
    example = torch.randn(1, 3, 8, 8)
    for point in find_hint_points(network, example):
        assert find_norm(network, point, example) is None
