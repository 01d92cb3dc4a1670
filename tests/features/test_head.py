"""Finding the end of a network, and changing it."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.head import find_head, find_last_map
from pursuhint.features.pooling import MeanPooling
from pursuhint.models import create_model

EXAMPLE = torch.zeros(2, 3, 32, 32)


class Pooled(nn.Module):
    """Pools by a module."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.dropout(self.pool(self.conv(x).relu()).flatten(1)))


class Averaged(nn.Module):
    """Pools by a function, behind a chain."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 4, 3, 2), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.features(x).mean((2, 3)))


class Activated(nn.Module):
    """Pools by a function, behind a function."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, 2)
        self.fc = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(F.adaptive_avg_pool2d(F.relu(self.conv(x), inplace=True), 1).flatten(1))


class Flat(nn.Module):
    """Averages nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(3 * 32 * 32, 6), nn.ReLU())
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layers(x))


def mean_of_last_map(network: nn.Module, images: Tensor) -> tuple[Tensor, Tensor]:
    features = FeatureExtractor(network, [find_last_map(network, EXAMPLE)], embedding=True)(images)
    return MeanPooling()(features.maps[0]), features.embedding


@pytest.mark.parametrize("network", [Pooled, Averaged, Activated, Flat])
def test_the_last_map_is_what_is_averaged_into_the_embedding(network):
    torch.manual_seed(0)
    network = network().eval()
    mean, embedding = mean_of_last_map(network, torch.randn(3, 3, 32, 32))
    torch.testing.assert_close(mean, embedding)


@pytest.mark.parametrize(
    "name", ["resnet8", "resnet8x4", "wrn_16_1", "vgg8", "mobilenetv2", "shufflev1", "shufflev2"]
)
def test_every_network_of_the_zoo_has_a_place_for_layers(name):
    torch.manual_seed(0)
    network = create_model(name, num_classes=5).eval()
    mean, embedding = mean_of_last_map(network, torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(mean, embedding)
    head = find_head(network, EXAMPLE)
    assert head.last_map.spatial != ()
    assert head.place("more").endswith(".more")


def test_torchvision_networks_too():
    torchvision = pytest.importorskip("torchvision.models")
    for name, place in (("resnet18", "avgpool.more"), ("mobilenet_v2", "features.more")):
        network = getattr(torchvision, name)(weights=None, num_classes=5).eval()
        assert find_head(network, EXAMPLE).place("more") == place


@pytest.mark.parametrize("kind", [Pooled, Averaged])
def test_layers_are_put_behind_the_last_map_and_taken_away_again(kind):
    torch.manual_seed(0)
    network = kind().eval()
    before, images = copy.deepcopy(network), torch.randn(3, 3, 32, 32)
    head = find_head(network, EXAMPLE)
    layers = nn.Conv2d(4, 7, 1)
    head.insert(network, "more", layers)
    head.change_classifier(network, lambda old: nn.Linear(7, old.out_features))
    assert network.get_submodule(head.place("more")) is layers
    features = before.conv(images).relu() if kind is Pooled else before.features(images)
    expected = network.fc(layers(features).mean((2, 3)))
    torch.testing.assert_close(network(images), expected)
    torch.testing.assert_close(copy.deepcopy(network)(images), expected)

    assert head.remove(network, "more") is layers
    head.change_classifier(network, lambda old: before.fc)
    assert [name for name, _ in network.named_modules()] == [name for name, _ in before.named_modules()]
    torch.testing.assert_close(network(images), before(images))


def test_points_of_a_network_keep_their_names():
    network = create_model("resnet8", num_classes=5)
    names = set(dict(network.named_modules()))
    find_head(network, EXAMPLE).insert(network, "more", nn.Identity())
    assert names < set(dict(network.named_modules()))


def test_a_head_is_changed_once():
    network = Pooled()
    head = find_head(network, EXAMPLE)
    head.insert(network, "more", nn.Identity())
    with pytest.raises(PursuhintError, match="two losses change the head of Pooled"):
        head.insert(network, "others", nn.Identity())


@pytest.mark.parametrize("network", [Activated, Flat])
def test_a_network_without_a_place_says_so(network):
    with pytest.raises(PursuhintError, match="has no place behind its last feature map"):
        find_head(network(), EXAMPLE).place("more")


def test_a_classifier_that_is_not_linear_says_so():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Conv2d(4, 5, 1))
    head = find_head(network, EXAMPLE)
    assert (head.classifier, head.last_map.channels) == ("3", 4)
    with pytest.raises(PursuhintError, match="does not end in a linear layer with a bias"):
        head.linear_classifier(network)


def test_looking_leaves_no_trace():
    network = Pooled().train()
    state = torch.get_rng_state()
    find_head(network.double(), EXAMPLE)
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
