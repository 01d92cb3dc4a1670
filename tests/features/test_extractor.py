"""An extractor returns what the network computed, and leaves the network as it was."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pursuhint.errors import PursuhintError
from pursuhint.features.embedding import find_classifier
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import HintPoint, find_hint_points
from pursuhint.models import create_model
from tests.features.test_hint_points import FunctionalNetwork


@pytest.fixture
def images() -> Tensor:
    return torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def ready(name: str) -> nn.Module:
    """A network of the zoo with norms that are not the identity."""
    torch.manual_seed(1)
    network = create_model(name, num_classes=10).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
            module.running_mean.uniform_(-0.2, 0.2)
    return network


def points_of(network: nn.Module, images: Tensor, activation: str = "post") -> tuple[HintPoint, ...]:
    return find_hint_points(network, images, activation=activation)  # type: ignore[arg-type]


@pytest.mark.parametrize("activation", ["pre", "post"])
def test_residual_block_by_hand(images, activation):
    network = ready("resnet20")
    points = points_of(network, images, activation)
    seen = FeatureExtractor(network, points, embedding=True)(images)
    x = network.relu(network.bn1(network.conv1(images)))
    for block, features in zip([*network.layer1, *network.layer2, *network.layer3], seen.maps):
        inner = F.relu(block.bn1(block.conv1(x)))
        pre = block.bn2(block.conv2(inner)) + (x if block.downsample is None else block.downsample(x))
        x = F.relu(pre)
        torch.testing.assert_close(features, pre if activation == "pre" else x)
    torch.testing.assert_close(seen.embedding, x.mean((2, 3)))
    torch.testing.assert_close(seen.logits, network(images))
    if activation == "pre":
        assert all((features < 0).any() for features in seen.maps)


def test_wide_resnet_post_is_the_raw_sum_and_pre_the_next_norm(images):
    network = ready("wrn_16_2")
    post = FeatureExtractor(network, points_of(network, images))(images).maps
    pre = FeatureExtractor(network, points_of(network, images, "pre"))(images).maps
    norms = [network.block1.layer[1].bn1, network.block2.layer[0].bn1, network.block2.layer[1].bn1,
             network.block3.layer[0].bn1, network.block3.layer[1].bn1, network.bn1]  # fmt: skip
    for norm, raw, normed in zip(norms, post, pre):
        assert (raw < 0).any()
        torch.testing.assert_close(normed, norm(raw))


def test_shuffle_unit_keeps_all_channels_before_the_activation(images):
    network = ready("ShuffleV2")
    post = FeatureExtractor(network, points_of(network, images))(images).maps
    pre = FeatureExtractor(network, points_of(network, images, "pre"))(images).maps
    for before, after in zip(pre, post):
        assert before.shape == after.shape
        torch.testing.assert_close(F.relu(before).flatten(1).sort().values, after.flatten(1).sort().values)


def test_linear_bottlenecks_have_no_pre_activation_of_their_own(images):
    network = ready("MobileNetV2")
    assert [p.tap for p in points_of(network, images, "pre")] == [p.tap for p in points_of(network, images)]


@pytest.mark.parametrize("inplace", [False, True])
def test_one_activation_called_twice_means_its_last_call(images, inplace):
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.conv2 = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 3, padding=1)
            self.relu = nn.ReLU(inplace=inplace)

        def forward(self, x: Tensor) -> Tensor:
            return self.relu(self.conv2(self.relu(self.conv1(x))) + x)

    torch.manual_seed(2)
    network = nn.Sequential(Block(), Block(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 2))
    points = points_of(network, images, "pre")
    assert [(p.tap.module, p.tap.call) for p in points] == [("0.relu", 1), ("1.relu", 1)]
    features = FeatureExtractor(network, points)(images).maps
    x = images
    for block, seen in zip(network[:2], features):
        pre = block.conv2(F.relu(block.conv1(x))) + x
        torch.testing.assert_close(seen, pre)
        x = F.relu(pre)


def test_activations_applied_as_functions_are_seen(images):
    network = FunctionalNetwork().eval()
    pre = FeatureExtractor(network, points_of(network, images, "pre"))(images).maps
    post = FeatureExtractor(network, points_of(network, images))(images).maps
    first = network.norm1(network.conv1(images))
    second = network.conv2(F.max_pool2d(F.relu(first), 2))
    for seen, expected in zip((*pre, *post), (first, second, F.relu(first), F.relu(second))):
        torch.testing.assert_close(seen, expected)


def test_a_module_used_twice_means_its_last_use(images):
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 3, 3, padding=1)
            self.fc = nn.Linear(3, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.conv(torch.tanh(self.conv(x))).mean((2, 3)))

    network = Twice()
    points = find_hint_points(network, images, include=["conv"])
    expected = network.conv(torch.tanh(network.conv(images)))
    torch.testing.assert_close(FeatureExtractor(network, points)(images).maps[0], expected)
    torch.testing.assert_close(FeatureExtractor(network, points, logits=False)(images).maps[0], expected)


def test_tuples_and_mappings_are_read(images):
    class Pair(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> tuple[Tensor, int]:
            return self.conv(x), 7

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pair, self.fc = Pair(), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> dict[str, Tensor]:
            features = self.pair(x)[0]
            return {"aux": features, "logits": self.fc(features.mean((2, 3)))}

    network = Network()
    seen = FeatureExtractor(network, find_hint_points(network, images, include=["pair"]))(images)
    assert seen.maps[0].shape == (4, 4, 30, 30)
    assert seen.logits is not None
    assert seen.logits.shape == (4, 2)


def test_the_forward_pass_stops_after_the_deepest_point(images):
    network = ready("resnet20")
    points = points_of(network, images)
    reached = []
    network.layer2.register_forward_pre_hook(lambda module, arguments: reached.append("layer2"))
    FeatureExtractor(network, points[:3], logits=False)(images)
    assert reached == []
    FeatureExtractor(network, points[:3])(images)
    assert reached == ["layer2"]


def test_no_hook_is_left_even_after_an_error(images):
    network = ready("resnet20")
    points = points_of(network, images, "pre")
    extractor = FeatureExtractor(network, points, embedding=True)
    extractor(images)
    with pytest.raises(RuntimeError):
        extractor(torch.zeros(1, 1, 32, 32))
    with pytest.raises(PursuhintError, match="cannot run"):
        find_hint_points(network, torch.zeros(1, 1, 32, 32))
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_modes_statistics_and_random_state_are_left_alone(images):
    network = ready("resnet20").train()
    network.layer2.eval()
    before = copy.deepcopy(network.state_dict())
    modes = [module.training for module in network.modules()]
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    points_of(network, images, "pre")
    torch.testing.assert_close(torch.rand(3), expected)
    assert [module.training for module in network.modules()] == modes
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_gradients_flow_through_copied_pre_activations(images):
    network = ready("resnet20").train()
    points = points_of(network, images, "pre")
    assert all(point.tap.copy for point in points)
    features = FeatureExtractor(network, points)(images).maps
    features[4].square().mean().backward()
    assert network.conv1.weight.grad.abs().sum() > 0
    assert network.layer2[1].conv2.weight.grad.abs().sum() > 0
    assert network.layer2[2].conv1.weight.grad is None


def test_classifier_is_the_last_linear_layer(images):
    name, module = find_classifier(ready("wrn_16_2"), images)
    assert name == "fc"
    assert isinstance(module, nn.Linear)


def test_an_embedding_of_tokens_is_averaged_in_float32(images):
    class ClassifiesEachToken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.patches, self.fc = nn.Conv2d(3, 4, 4, 4), nn.Linear(4, 2)

        def tokens(self, x: Tensor) -> Tensor:
            return self.patches(x).flatten(2).transpose(1, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(self.tokens(x)).mean(1)

    network = ClassifiesEachToken().to(torch.bfloat16)
    embedding = FeatureExtractor(network, embedding=True)(images.bfloat16()).embedding
    assert torch.equal(embedding, network.tokens(images.bfloat16()).float().mean(1))


def test_points_of_another_network_are_refused(images):
    points = points_of(ready("resnet110"), images)
    with pytest.raises(
        PursuhintError, match=r"layer1\.3 \(position 4 of 54, post\) is not a module of Cifar"
    ):
        FeatureExtractor(ready("resnet20"), points)


def test_a_black_image_finds_the_same_points_in_an_untrained_network():
    network = create_model("wrn_16_1", num_classes=10)
    noise = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert points_of(network, torch.zeros(1, 3, 32, 32), "pre") == points_of(network, noise, "pre")


def test_inference_mode_gives_the_same_features_though_it_counts_no_versions():
    """Also where an activation overwrites the features that were read before it."""
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.ReLU(inplace=True)
    ).eval()
    images = torch.randn(2, 3, 8, 8)
    for activation in ("post", "pre"):
        extractor = FeatureExtractor(network, find_hint_points(network, images, activation=activation))
        with torch.no_grad():
            expected = extractor(images).maps
        with torch.inference_mode():
            found = extractor(images).maps
        assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
