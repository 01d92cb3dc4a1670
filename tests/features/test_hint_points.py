"""Discovery of hint points on networks of many kinds."""

from __future__ import annotations

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import (
    HintPoint,
    conventional_points,
    find_hint_points,
    number_of_stages,
    resolve_point,
    stage_ends,
)
from pursuhint.models import create_model


def image(size: int = 32) -> Tensor:
    return torch.linspace(-1, 1, 3 * size * size).reshape(1, 3, size, size)


@pytest.mark.parametrize(
    ("name", "count", "first", "last", "conventional"),
    [
        ("resnet110", 54, "layer1.0", "layer3.17", [18, 36, 54]),
        ("resnet32x4", 15, "layer1.0", "layer3.4", [5, 10, 15]),
        ("wrn_40_2", 18, "block1.layer.0", "block3.layer.5", [6, 12, 18]),
        ("wrn_10_1", 3, "block1.layer.0", "block3.layer.0", [1, 2, 3]),
        ("vgg8", 5, "relu0", "relu4", [2, 3, 4, 5]),
        ("MobileNetV2", 17, "blocks.0.0", "blocks.6.0", [3, 6, 13, 17]),
        ("ShuffleV1", 16, "layer1.0", "layer3.3", [4, 12, 16]),
        ("ShuffleV2", 16, "layer1.0", "layer3.3", [4, 12, 16]),
        ("ResNet50", 16, "layer1.0", "layer4.2", [3, 7, 13, 16]),
    ],
)
def test_the_zoo_has_the_sub_blocks_that_the_papers_count(name, count, first, last, conventional):
    network = create_model(name, num_classes=10)
    points = find_hint_points(network, image())
    assert [len(points), points[0].module, points[-1].module] == [count, first, last]
    assert [point.position for point in points] == list(range(1, count + 1))
    assert [point.position for point in conventional_points(network, points)] == conventional


@pytest.mark.parametrize(
    ("name", "count", "stages", "last"),
    [
        ("resnet34", 16, [3, 7, 13, 16], "layer4.2"),
        ("resnext50_32x4d", 16, [3, 7, 13, 16], "layer4.2"),
        ("mobilenet_v2", 17, [1, 3, 6, 13, 17], "features.17"),
        ("mobilenet_v3_small", 11, [1, 3, 8, 11], "features.11"),
        ("shufflenet_v2_x0_5", 16, [4, 12, 16], "stage4.3"),
        ("efficientnet_b0", 16, [1, 3, 5, 11, 16], "features.7.0"),
        ("vgg11_bn", 8, [1, 2, 4, 6, 8], "features.27"),
        ("densenet121", 58, [6, 18, 42, 58], "features.denseblock4.denselayer16"),
        ("convnext_tiny", 18, [3, 6, 15, 18], "features.7.2"),
        ("regnet_y_400mf", 16, [1, 4, 10, 16], "trunk_output.block4.block4-5"),
        ("swin_t", 12, [2, 4, 10, 12], "features.7.1"),
    ],
)
def test_torchvision_networks_need_no_list_of_their_own(name, count, stages, last):
    points = find_hint_points(torchvision.models.get_model(name, weights=None), image(64))
    assert len(points) == count
    assert points[-1].module == last
    assert [point.position for point in stage_ends(points)] == stages


def test_tokens_are_one_stage():
    points = find_hint_points(torchvision.models.vit_b_32(weights=None), image(224))
    assert len(points) == 12
    assert number_of_stages(points) == 1
    assert (points[0].channels, points[0].spatial) == (768, (50,))


class FunctionalNetwork(nn.Module):
    """No activation is a module here, and one is in place."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.norm1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, padding=1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.norm1(self.conv1(x)), inplace=True)
        x = torch.relu(self.conv2(F.max_pool2d(x, 2)))
        return self.fc(x.mean((2, 3)))


def test_a_plain_network_gives_its_convolution_units():
    plain = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3), nn.GELU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5),
    )  # fmt: skip
    points = find_hint_points(plain, image())
    assert [(p.module, p.channels, p.spatial, p.stage) for p in points] == [
        ("2", 8, (30, 30), 1),
        ("5", 16, (13, 13), 2),
    ]
    points = find_hint_points(FunctionalNetwork(), image(), activation="pre")
    assert [(p.module, p.tap.kind) for p in points] == [
        ("norm1", "functional-input"),
        ("conv2", "functional-input"),
    ]


def test_a_perceptron_gives_its_hidden_layers():
    mlp = nn.Sequential(
        nn.Flatten(), nn.Linear(27, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 2)
    )
    assert [p.module for p in find_hint_points(mlp, image(3))] == ["2", "4"]


def test_patterns_replace_the_automatic_choice():
    network = create_model("resnet20", num_classes=10)
    assert [p.module for p in find_hint_points(network, image(), include=["layer2.*", "layer3.2"])] == [
        "layer2.0", "layer2.1", "layer2.2", "layer3.2",
    ]  # fmt: skip
    inner = find_hint_points(network, image(), include=["layer1.0.conv1"])
    assert (inner[0].tap.kind, inner[0].total) == ("output", 1)
    with pytest.raises(PursuhintError, match=r"'layr2\.0' matches no module .*; did you mean 'layer2"):
        find_hint_points(network, image(), include=["layr2.0"])


def test_unknown_names_are_answered_with_the_nearest():
    points = find_hint_points(create_model("resnet20", num_classes=10), image())
    assert resolve_point(points, "9").module == "layer3.2"
    assert resolve_point(points, "layer2.0").position == 4
    with pytest.raises(PursuhintError, match=r"no hint point 'layer4\.0' among the 9 .* did you mean"):
        resolve_point(points, "layer4.0")


def test_a_number_is_a_position_and_text_a_module():
    network = nn.Sequential(*(layer for _ in range(3) for layer in (nn.Conv2d(3, 3, 3), nn.ReLU())))
    points = find_hint_points(network, image(16))
    assert [point.module for point in points] == ["1", "3", "5"]
    assert [resolve_point(points, name).module for name in (1, 2, 3, "1", "2", "3")] == list("135133")


def test_points_survive_json_and_print_their_place():
    points = find_hint_points(create_model("resnet110", num_classes=10), image(), activation="pre")
    assert str(points[22]) == "layer2.4 (position 23 of 54, pre)"
    assert HintPoint.from_dict(points[22].to_dict()) == points[22]
    with pytest.raises(PursuhintError, match="not a hint point"):
        HintPoint.from_dict({"module": "layer1.0"})


def test_errors_say_what_to_do():
    network = create_model("resnet20", num_classes=10)
    with pytest.raises(PursuhintError, match="activation must be 'pre' or 'post', got 'mid'"):
        find_hint_points(network, image(), activation="mid")  # type: ignore[arg-type]
    with pytest.raises(PursuhintError, match=r"input of shape \(2, 1, 8, 8\) \(in its module 'conv1'\)"):
        find_hint_points(network, torch.zeros(1, 1, 8, 8))
    with pytest.raises(PursuhintError, match="found no sub-block in Sequential"):
        find_hint_points(nn.Sequential(nn.Flatten(), nn.Linear(27, 2)), image(3))
