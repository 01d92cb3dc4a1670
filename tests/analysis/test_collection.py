"""Collecting the moments of a network's layers."""

from __future__ import annotations

import importlib
from dataclasses import replace

import pytest
import torch
from torch import nn

from pursuhint._util.timing import CollectSeconds
from pursuhint.analysis.collection import collect
from pursuhint.data import make_loader
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.pooling import MeanPooling
from tests.helpers.analysis_networks import (
    TokenNetwork,
    noise_images,
    plain_network,
    points_of,
    vector_network,
)


def batches(size=16, data=None):
    return make_loader(data or noise_images(), "train", batch_size=size, training=False).epoch(0)


def features_at_once(network, points):
    """Pooled features of all images, in evaluation mode."""
    network.eval()
    with torch.no_grad():
        return [
            MeanPooling()(features)
            for features in FeatureExtractor(network, points)(next(batches(1000)).images).maps
        ]


@pytest.mark.parametrize("activation", ["post", "pre"])
@pytest.mark.parametrize("make", [plain_network, TokenNetwork, vector_network])
def test_equals_moments_of_all_features_at_once(make, activation):
    network = make()
    points = points_of(network, activation=activation)
    moments = collect([(network, points)], batches(7))
    expected = features_at_once(network, points)
    assert moments.count == 60
    for i, features in enumerate(expected):
        centered = features.double() - features.double().mean(0)
        torch.testing.assert_close(moments.mean(i), features.double().mean(0), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(moments.cross(i, i), centered.T @ centered, rtol=1e-4, atol=1e-5)


def test_memory_limit_does_not_change_the_result(monkeypatch):
    network = plain_network()
    points = points_of(network)
    whole = collect([(network, points)], batches())
    module = importlib.import_module("pursuhint.analysis.collection")
    monkeypatch.setattr(module, "_BUDGET_ON_CPU", 5 * 4 * sum(p.channels * 256 for p in points))
    parts = collect([(network, points)], batches())
    for i in range(len(points)):
        torch.testing.assert_close(parts.cross(i, i), whole.cross(i, i), rtol=1e-4, atol=1e-6)


def test_network_is_left_as_it_was():
    network = plain_network().train()
    network[1].eval()
    modes = [module.training for module in network.modules()]
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    collect([(network, points_of(network))], batches())
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in network.modules())
    assert all(parameter.requires_grad for parameter in network.parameters())


def test_network_is_left_as_it_was_after_an_error():
    network = plain_network().train()
    points = points_of(network)

    def broken():
        yield from batches(30)
        raise RuntimeError("the disk is gone")

    with pytest.raises(RuntimeError, match="the disk is gone"):
        collect([(network, points)], broken())
    assert all(module.training for module in network.modules())
    assert not any(module._forward_hooks for module in network.modules())


def test_stops_after_the_deepest_point():
    class Explosive(nn.Module):
        def forward(self, features):
            raise AssertionError("ran further than needed")

    network = plain_network()
    points = points_of(network)[:4]
    network[5] = Explosive()
    assert collect([(network, points)], batches()).count == 60


def test_reports_progress_and_time():
    network = plain_network()
    done = []
    seconds = CollectSeconds()
    collect([(network, points_of(network))], batches(25), on_batch=done.append, seconds=seconds)
    assert done == [25, 50, 60]
    assert min(seconds.data, seconds.forward, seconds.accumulate) > 0
    assert seconds.total == seconds.data + seconds.forward + seconds.accumulate


def test_no_batches_no_samples():
    network = plain_network()
    assert collect([(network, points_of(network))], []).count == 0


def test_names_the_point_and_the_batch_that_hold_nan():
    network = plain_network()
    points = points_of(network)
    second = list(batches(16))
    second[1] = replace(second[1], images=torch.full_like(second[1].images, torch.nan))
    with pytest.raises(
        PursuhintError, match=r"features of 0\.2 \(position 1 of 8, post\) hold NaN .* batch 2"
    ):
        collect([(network, points)], second)


def narrow(images):
    return images[..., ::2]


def fail(images):
    raise ValueError("no such thing\nand more about it")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            narrow,
            r"features of 0\.2 \(position 1 of 8, post\) are of shape \(8, 16, 8\) in batch 2, of shape "
            r"\(8, 16, 16\) before it; choose among modules",
        ),
        (fail, r"Sequential failed in batch 2, of shape \(16, 3, 16, 16\): no such thing$"),
    ],
)
def test_network_that_does_something_else_in_the_second_batch(change, message):
    network = plain_network()
    points = points_of(network)
    seen = []

    def hook(module, arguments):
        seen.append(arguments)
        return change(*arguments) if len(seen) == 2 else None

    network.register_forward_pre_hook(hook)
    with pytest.raises(PursuhintError, match=message):
        collect([(network, points)], batches())


def test_no_points():
    with pytest.raises(PursuhintError, match="no hint points were given"):
        collect([(plain_network(), [])], batches())
