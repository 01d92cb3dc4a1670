"""The copy that passes read features from: equal features, faster arithmetic, and the network untouched."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pursuhint._util.fingerprint import fingerprint_network
from pursuhint.acceleration.inference_copy import inference_copy
from pursuhint.analysis import analyze
from pursuhint.analysis.collection import collect
from pursuhint.analysis.pass_options import PassOptions
from pursuhint.data import make_loader
from pursuhint.features.hint_points import find_hint_points
from pursuhint.models import create_model
from pursuhint.similarity import linear_cka_matrix
from tests.helpers.analysis_networks import noise_images


def trained_norms(network):
    """A network whose batch norms have statistics of their own."""
    generator = torch.Generator().manual_seed(1)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.uniform_(0.5, 2, generator=generator)
    return network.eval()


@pytest.mark.parametrize("activation", ["post", "pre"])
def test_features_of_the_pass_are_those_of_the_network(activation):
    """Before the activations too: these are outputs of batch norms, which the convolutions then give."""
    network = trained_norms(create_model("resnet8", num_classes=10, in_channels=3))
    before = fingerprint_network(network)
    images = torch.randn(4, 3, 16, 16)
    points = find_hint_points(network, images[:1], activation=activation)
    copied = inference_copy(network, images, points)
    assert copied is not None
    norms = [module for module in copied.modules() if isinstance(module, nn.BatchNorm2d)]
    assert len(norms) < sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    data = noise_images(60)
    found = []
    for fused in (True, False):
        batches = make_loader(data, "train", batch_size=30, training=False).epoch(0)
        options = PassOptions(fuse_batchnorm=fused, channels_last=fused)
        statistics = collect([(network, points)], batches, options)
        found.append(
            (linear_cka_matrix(statistics), torch.cat([statistics.mean(i) for i in range(len(points))]))
        )
    for one, other in zip(*found):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)
    assert not torch.equal(found[0][1], found[1][1]), "they were computed in another way"
    assert fingerprint_network(network) == before


def test_norms_that_are_read_before_or_after_stay():
    """A point between a convolution and its norm keeps both as they are."""
    network = trained_norms(create_model("resnet8", num_classes=10, in_channels=3))
    images = torch.randn(2, 3, 16, 16)
    points = find_hint_points(network, images, include=["layer1.0.conv1", "layer2.0.conv2"])
    copied = inference_copy(network, images, points)
    weights = dict(copied.named_parameters())
    for name in ("layer1.0.conv1.weight", "layer2.0.conv2.weight"):
        assert torch.equal(weights[name], dict(network.named_parameters())[name])
    assert not torch.equal(weights["layer3.0.conv1.weight"], network.layer3[0].conv1.weight)


def test_networks_without_norms_and_those_that_disagree_run_as_they_are():
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())
    assert inference_copy(plain, torch.rand(2, 3, 16, 16), ()) is None

    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.relu = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
            self.conv2, self.head = nn.Conv2d(4, 4, 3), nn.Linear(4, 2)
            self.calls = 0

        def forward(self, images):
            self.calls += 1  # another value at every call
            maps = self.conv2(self.relu(self.norm(self.conv(images)) + self.calls))
            return self.head(maps.relu().mean((2, 3)))

    network = Counting().eval()
    images = torch.rand(2, 3, 16, 16)
    points = find_hint_points(network, images)
    assert inference_copy(network, images, points) is None
    found = analyze(Counting(), noise_images(60), batch_size=60, samples=60)
    assert len(found.plan)
