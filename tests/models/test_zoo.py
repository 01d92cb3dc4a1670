"""The networks that come with PursuHint."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import conventional_points, find_hint_points
from pursuhint.models import MODELS, create_model, model_names

SMALL = [
    "resnet8",
    "resnet8x4",
    "wrn_10_1",
    "vgg8",
    "MobileNetV1",
    "MobileNetV2",
    "ShuffleV1",
    "ShuffleV2",
]  # one of each family


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("name", MODELS)
def test_every_network_is_built_and_its_taps_exist(name: str) -> None:
    with torch.device("meta"):
        network = create_model(name, num_classes=7, in_channels=2)
        logits = network(torch.zeros(2, 2, 32, 32))
    assert logits.shape == (2, 7)
    modules = dict(network.named_modules())
    assert set(network.stage_taps) <= modules.keys()
    assert network.training


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(("channels", "height", "width"), [(1, 8, 8), (4, 32, 48), (3, 71, 65)])
def test_any_channels_and_image_size(name: str, channels: int, height: int, width: int) -> None:
    network = create_model(name, num_classes=5, in_channels=channels)
    logits = network(torch.randn(3, channels, height, width))
    logits.sum().backward()
    assert logits.shape == (3, 5)
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("name", SMALL)
def test_stage_taps_are_called_once_and_end_the_stages(name: str) -> None:
    network = create_model(name, num_classes=5).eval()
    calls: list[str] = []
    for tap in network.stage_taps:
        network.get_submodule(tap).register_forward_hook(lambda *_, tap=tap: calls.append(tap))
    network(torch.zeros(1, 3, 32, 32))
    assert calls == list(network.stage_taps)

    points = find_hint_points(network, torch.zeros(1, 3, 32, 32))
    ends = [point.module for point in conventional_points(network, points)]
    # VGG's stem is its first stage; the other networks have a stem apart from their sub-blocks.
    assert ends == list(network.stage_taps[1:])


@pytest.mark.parametrize("name", SMALL)
def test_every_activation_is_a_module(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    network = create_model(name, num_classes=5).eval()
    expected = sum(isinstance(module, nn.ReLU) for module in network.modules())
    called: list[nn.Module] = []
    for module in network.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
            module.register_forward_hook(lambda module, *_: called.append(module))
    network(torch.zeros(1, 3, 32, 32))
    assert len(called) == len(set(called)) == expected


@pytest.mark.parametrize(("name", "options"), [("vgg8", {}), ("MobileNetV2", {"width": 0.25})])
def test_same_seed_same_weights(name: str, options: dict[str, float]) -> None:
    networks = []
    for _ in range(2):
        torch.manual_seed(3)
        networks.append(create_model(name, num_classes=5, **options))
    torch.testing.assert_close(networks[0].state_dict(), networks[1].state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("name", "tensor", "deviation"),
    [
        ("resnet20", "layer3.2.conv2.weight", math.sqrt(2 / (9 * 64))),
        ("ResNet50", "layer1.0.conv2.weight", math.sqrt(2 / (9 * 64))),
        ("wrn_16_2", "block3.layer.1.conv2.weight", math.sqrt(2 / (9 * 128))),
        ("vgg8", "block2.0.weight", math.sqrt(2 / (9 * 256))),
        ("vgg8", "classifier.weight", 0.01),
        ("MobileNetV2", "conv2.0.weight", math.sqrt(2 / 1280)),
        ("MobileNetV2", "blocks.5.2.conv.3.weight", math.sqrt(2 / (9 * 480))),  # grouped, all channels count
        ("MobileNetV2", "classifier.0.weight", 0.01),
    ],
)
def test_initial_weights_have_the_deviation_of_the_reference(
    name: str, tensor: str, deviation: float
) -> None:
    weights = create_model(name, num_classes=100).state_dict()[tensor]
    assert float(weights.std()) == pytest.approx(deviation, rel=0.05)


def test_wide_resnet_of_any_depth_and_width() -> None:
    network = create_model("WRN_22_3", num_classes=4)
    assert len(network.block1.layer) == 3
    assert network.fc.in_features == 192
    assert network.stage_taps == ("conv1", "block1.layer.2", "block2.layer.2", "block3.layer.2")


def test_wide_resnet_dropout_acts_in_training_only() -> None:
    images = torch.randn(2, 3, 8, 8)
    plain = create_model("wrn_10_1", num_classes=4)
    dropping = create_model("wrn_10_1", num_classes=4, dropout=0.5)
    dropping.load_state_dict(plain.state_dict())
    assert not torch.equal(plain(images), dropping(images))
    plain.load_state_dict(dropping.state_dict())  # the running statistics have moved apart
    torch.testing.assert_close(plain.eval()(images), dropping.eval()(images))


@pytest.mark.parametrize(("width", "stem", "embedding"), [(0.5, 16, 1280), (1.0, 32, 1280), (1.5, 48, 1920)])
def test_mobilenet_width(width: float, stem: int, embedding: int) -> None:
    with torch.device("meta"):
        network = create_model("MobileNetV2", num_classes=4, width=width)
    assert network.conv1[0].out_channels == stem
    assert network.classifier[0].in_features == embedding


def test_vgg_pools_once_more_for_large_images() -> None:
    network = create_model("vgg8", num_classes=4).eval()
    sizes = {
        size: find_hint_points(network, torch.zeros(1, 3, size, size))[-1].spatial for size in (32, 64, 128)
    }
    assert sizes == {32: (4, 4), 64: (4, 4), 128: (8, 8)}


def test_shuffle_v2_activates_both_halves_without_changing_the_passed_one() -> None:
    unit = create_model("ShuffleV2", num_classes=4).eval().layer1[1]
    features = torch.rand(2, 116, 4, 4)
    caught: list[torch.Tensor] = []
    unit.relu2.register_forward_pre_hook(lambda module, inputs: caught.append(inputs[0].clone()))
    out = unit(features)
    assert caught[0].shape == features.shape
    assert torch.equal(out[:, ::2], features[:, :58])


def test_model_names_are_those_of_the_table() -> None:
    assert model_names() == list(MODELS)
    for name in ("resnet110", "resnet32x4", "wrn_28_4", "vgg13", "ResNet50", "MobileNetV2", "ShuffleV1"):
        assert name in model_names()


def test_names_need_no_torch() -> None:
    code = "import sys, pursuhint.models as m; m.model_names(); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("resnet21", {}, "no network named 'resnet21'; did you mean 'resnet"),
        ("mobilenet", {}, "did you mean 'MobileNetV2'"),
        ("torchvision.resnet34", {}, "write package.module:function"),
        ("wrn_41_2", {}, "6 n \\+ 4 layers, got 41; the nearest are wrn_40_2 and wrn_46_2"),
        ("wrn_4_1", {}, "the nearest are wrn_10_1"),
        ("wrn_16_0", {}, "width of a wide ResNet must be at least 1, got 0"),
        ("wrn_16_1", {"dropout": 1.0}, r"dropout must be in \[0, 1\), got 1.0"),
        ("wrn_16_1", {"width": 2}, "width of wrn_16_1 is already set to 1"),
        ("resnet20", {"width": 2}, "resnet20 has no option 'width'; it has none"),
        ("MobileNetV2", {"widht": 1.0}, "no option 'widht'; did you mean 'width'?"),
        ("MobileNetV2", {"width": 0.05}, "at least 1/16, got 0.05"),
        ("MobileNetV2", {"width": "half"}, "MobileNetV2 cannot be built with width='half': "),
        ("wrn_16_1", {"dropout": None}, "wrn_16_1 cannot be built with dropout=None: "),
        ("MobileNetV2", {"expansion": 0}, "expansion of MobileNetV2 must be at least 1, got 0"),
        ("resnet20", {"num_classes": 0}, "num_classes must be at least 1, got 0"),
        ("resnet20", {"in_channels": 0}, "in_channels must be at least 1, got 0"),
    ],
)
def test_wrong_names_and_options_say_so(name: str, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(PursuhintError, match=message):
        create_model(name, **{"num_classes": 10, **arguments})


def test_wrong_depth_and_image_size_say_so() -> None:
    from pursuhint.models.resnet import CifarResNet

    for depth in (2, 9, 21):
        with pytest.raises(PursuhintError, match=f"6 n \\+ 2 layers .*, got {depth}"):
            CifarResNet(depth, num_classes=10)
    with pytest.raises(PursuhintError, match="at least 8 x 8 pixels, got 7 x 32"):
        create_model("vgg8", num_classes=10)(torch.zeros(1, 3, 7, 32))
