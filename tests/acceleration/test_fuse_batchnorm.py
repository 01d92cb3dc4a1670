"""Folding batch norms changes nothing that can be seen."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import pursuhint.distillation.teacher
from pursuhint.acceleration.fuse_batchnorm import fuse_batchnorms
from pursuhint.distillation.teacher import TeacherOutputs, TeacherRunner
from pursuhint.features.call_trace import evaluating
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.hint_points import HintPoint, find_hint_points
from pursuhint.features.tap import Tap
from pursuhint.models import create_model


def with_statistics(network: nn.Module) -> nn.Module:
    """As after training: every norm with a scale, a shift and running statistics of its own."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor, low in ((module.weight, 0.5), (module.running_var, 0.5)):
                tensor.data = low + torch.rand(tensor.shape, generator=generator, dtype=tensor.dtype)
            for tensor in (module.bias, module.running_mean):
                tensor.data = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype) / 5
    return network.eval()


def norms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in network.modules())


def tap_of(module: str, kind: str) -> HintPoint:
    return HintPoint(module, 1, 1, "post", 0, (), 0, Tap(module, kind))


@pytest.mark.parametrize(
    ("name", "left"),
    [("resnet8", 0), ("wrn_16_1", 7), ("wrn_16_2", 6), ("MobileNetV2", 0), ("vgg8", 0), ("ShuffleV1", 0)],
)
@pytest.mark.parametrize("activation", ["pre", "post"])
def test_every_point_logits_and_embedding_keep_their_values(name: str, left: int, activation: str) -> None:
    torch.manual_seed(0)
    network = with_statistics(create_model(name, num_classes=4).double())
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    points = find_hint_points(network, images, activation=activation)
    folded = fuse_batchnorms(network, images, points)
    assert norms(folded) == left
    assert {key for key, _ in folded.named_modules()} == {key for key, _ in network.named_modules()}
    expected = FeatureExtractor(network, points, embedding=True)(images)
    found = FeatureExtractor(folded, points, embedding=True)(images)
    for one, other in zip(
        (found.logits, found.embedding, *found.maps),
        (expected.logits, expected.embedding, *expected.maps),
    ):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_the_network_itself_is_left_alone() -> None:
    network = create_model("resnet8", num_classes=4)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    fuse_batchnorms(network, torch.randn(2, 3, 32, 32))
    assert network.training
    assert norms(network) == 9
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_what_lies_between_stays_readable() -> None:
    network = with_statistics(create_model("resnet8", num_classes=4))
    images = torch.randn(2, 3, 32, 32)
    for point in (tap_of("layer1.0.conv1", "output"), tap_of("layer1.0.bn1", "input")):
        folded = fuse_batchnorms(network, images, [point])
        assert norms(folded) == 1
        torch.testing.assert_close(
            FeatureExtractor(folded, [point])(images).maps, FeatureExtractor(network, [point])(images).maps
        )


def test_norms_without_learned_parameters_and_layers_with_a_bias_or_of_vectors() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=True),
        nn.BatchNorm2d(4, affine=False),
        nn.Flatten(),
        nn.Linear(4 * 36, 5),
        nn.BatchNorm1d(5),
    ).double()
    network.train()(torch.randn(9, 3, 8, 8, dtype=torch.float64))
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    folded = fuse_batchnorms(network, images)
    assert norms(folded) == 0
    with evaluating(network):
        torch.testing.assert_close(folded(images), network(images))


class Twice(nn.Module):
    """Shares a layer between two norms, a weight between two layers, and reads a layer past its norm."""

    def __init__(self, *, past: bool) -> None:
        super().__init__()
        self.shared, self.norm1, self.norm2 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
        self.tied, self.other, self.norm3 = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.other.weight = self.tied.weight
        self.conv, self.norm4 = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.fc = nn.Linear(3, 2)
        self.past = past

    def forward(self, images: Tensor) -> Tensor:
        x = self.norm2(self.shared(self.norm1(self.shared(images))))
        x = self.other(self.norm3(self.tied(x)))
        y = self.conv(x)
        return self.fc((self.norm4(y) + (y if self.past else 0)).mean((2, 3)))


@pytest.mark.parametrize(("past", "left"), [(False, 3), (True, 4)])
def test_layers_that_are_used_elsewhere_are_not_folded(past: bool, left: int) -> None:
    torch.manual_seed(0)
    network = with_statistics(Twice(past=past)).requires_grad_(False)
    images = torch.randn(2, 3, 4, 4)
    folded = fuse_batchnorms(network, images)
    assert norms(folded) == left
    torch.testing.assert_close(folded(images), network(images))


def test_a_copy_that_computes_something_else_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = with_statistics(Twice(past=False)).requires_grad_(False)
    other = with_statistics(Twice(past=False))
    monkeypatch.setattr(pursuhint.distillation.teacher, "fuse_batchnorms", lambda *_: other)
    images = torch.randn(4, 3, 4, 4)
    logits = TeacherRunner(network, TeacherOutputs(logits=True))(images).logits
    torch.testing.assert_close(logits, network(images))
