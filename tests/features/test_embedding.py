"""What a network without a classifier returns is its embedding, and its deepest block is a candidate."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn

from pursuhint.errors import PursuhintError
from pursuhint.features import FeatureExtractor, find_classifier, find_hint_points
from pursuhint.features.head import find_head

IMAGES = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))


class Residual(nn.Module):
    """A residual block with a projection."""

    def __init__(self, before: int, width: int) -> None:
        super().__init__()
        self.one, self.two = nn.Conv2d(before, width, 3, padding=1), nn.Conv2d(width, width, 1)
        self.skip = nn.Conv2d(before, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.skip(x) + self.two(self.one(x).relu())).relu()


class Second(Residual):
    """The same, of a class that occurs once."""


class Third(Residual):
    """The same, of a class that occurs once."""


def blocks(*head: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3),
        Residual(4, 6),
        nn.MaxPool2d(2),
        Second(6, 8),
        nn.MaxPool2d(2),
        Third(8, 10),
        *head,
    ).eval()


def units(*head: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    widths = ((3, 4), (4, 6), (6, 8))
    layers = [(nn.Conv2d(before, width, 3), nn.ReLU()) for before, width in widths]
    return nn.Sequential(*(module for layer in layers for module in layer), *head).eval()


POOL = (nn.AdaptiveAvgPool2d(1), nn.Flatten())


@pytest.mark.parametrize(
    ("make", "width", "deepest"), [(blocks, 10, ["1", "3", "5"]), (units, 8, ["1", "3", "5"])]
)
def test_the_deepest_block_does_not_need_a_classifier_behind_it(make, width, deepest):
    for head in ((), POOL, (*POOL, nn.Linear(width, 2))):
        network = make(*head)
        assert [point.module for point in find_hint_points(network, IMAGES)] == deepest
        embedding = FeatureExtractor(network, embedding=True)(IMAGES).embedding
        torch.testing.assert_close(embedding, network[:6](IMAGES).mean((2, 3)))
        if len(head) == 3:
            assert find_classifier(network, IMAGES)[0] == "8"
        else:
            with pytest.raises(PursuhintError, match="Sequential has no classifier: it returns features"):
                find_classifier(network, IMAGES)


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv2_050"])
def test_the_embedding_of_a_network_without_its_classifier_is_that_of_the_whole(name):
    torch.manual_seed(0)
    whole, headless = (timm.create_model(name, num_classes=classes).eval() for classes in (3, 0))
    headless.load_state_dict(whole.state_dict(), strict=False)
    expected = FeatureExtractor(whole, embedding=True)(IMAGES).embedding
    found = FeatureExtractor(headless, embedding=True)(IMAGES).embedding
    torch.testing.assert_close(found, expected)
    last = find_head(headless, IMAGES).last_map
    assert (last.module, last.channels) == (find_head(whole, IMAGES).last_map.module, expected.shape[1])


def test_the_features_of_a_network_end_in_its_last_block():
    for features, last in (
        (torchvision.models.vgg11(weights=None).features, "19"),
        (torchvision.models.mobilenet_v2(weights=None).features, "17"),
    ):
        assert find_hint_points(features, IMAGES)[-1].module == last
        embedding = FeatureExtractor(features.eval(), embedding=True)(IMAGES).embedding
        torch.testing.assert_close(embedding, features(IMAGES).mean((2, 3)))


def test_a_network_without_a_classifier_refuses_another():
    with pytest.raises(PursuhintError, match="Sequential has no classifier: it returns features"):
        find_head(blocks(), IMAGES).replace_classifier(blocks(), nn.Linear(10, 2))
