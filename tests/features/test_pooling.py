"""From feature maps and tokens to one vector a sample."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from pursuhint.analysis.cross_network import compare_networks
from pursuhint.analysis.result import Analysis
from pursuhint.analysis.run_analysis import analyze
from pursuhint.data import make_loader
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import FeatureExtractor
from pursuhint.features.pooling import (
    POOLINGS,
    ClassToken,
    GridOfPositions,
    MaxPooling,
    MeanPooling,
    get_pooling,
)
from pursuhint.similarity import linear_cka
from tests.helpers.analysis_networks import (
    TokenNetwork,
    noise_images,
    plain_network,
    points_of,
    vector_network,
)

MAPS = torch.randn(3, 5, 6, 8, generator=torch.Generator().manual_seed(0))
TOKENS = torch.randn(3, 17, 5, generator=torch.Generator().manual_seed(1))
VECTORS = torch.randn(3, 5, generator=torch.Generator().manual_seed(2))


def test_mean_is_over_places_of_maps_and_over_tokens():
    torch.testing.assert_close(MeanPooling()(MAPS), MAPS.flatten(2).sum(2) / 48)
    torch.testing.assert_close(MeanPooling()(TOKENS), TOKENS.sum(1) / 17)
    assert MeanPooling()(VECTORS) is VECTORS
    with pytest.raises(PursuhintError, match=r"found shape \(720,\)"):
        MeanPooling()(MAPS.flatten())


def test_the_mean_of_half_precision_is_rounded_to_float32_only():
    for half in (torch.bfloat16, torch.float16):
        features = MAPS.to(half)
        assert torch.equal(MeanPooling()(features), features.float().mean((2, 3)))


def test_max_is_the_largest_of_each_channel():
    assert torch.equal(MaxPooling()(MAPS), MAPS.flatten(2).max(2).values)
    assert torch.equal(MaxPooling()(TOKENS), TOKENS.max(1).values)


def test_class_token_is_the_first():
    assert torch.equal(ClassToken()(TOKENS), TOKENS[:, 0])
    with pytest.raises(PursuhintError, match=r"takes sequences .* found shape \(3, 5, 6, 8\)"):
        ClassToken()(MAPS)


def test_a_grid_keeps_places_evenly_spread():
    expected = torch.stack([MAPS[:, :, y, x] for y in (1, 4) for x in (2, 6)], 2).flatten(1)
    assert torch.equal(GridOfPositions(2)(MAPS), expected)
    assert torch.equal(GridOfPositions(2)(TOKENS), TOKENS[:, [2, 6, 10, 14]].flatten(1))
    assert torch.equal(GridOfPositions(9)(MAPS), MAPS.flatten(1))
    assert torch.equal(GridOfPositions(1)(MAPS), MAPS[:, :, 3, 4])


@pytest.mark.parametrize("name", ["mean", "max", "none", "none:1", "none:3", "none:100"])
@pytest.mark.parametrize("network", [plain_network(), TokenNetwork(), vector_network()])
def test_the_width_is_known_before_the_network_runs(name, network):
    pooling = get_pooling(name)
    points = points_of(network)
    pooling.check(points)
    features = FeatureExtractor(network.eval(), points)(torch.zeros(2, 3, 16, 16)).maps
    for point, values in zip(points, features):
        assert pooling(values).shape == (2, pooling.width(point.channels, point.spatial))


def test_a_class_token_is_not_taken_where_there_is_none():
    with pytest.raises(PursuhintError, match=r"1 of 8, post\) is a feature map and has no class token"):
        ClassToken().check(points_of(plain_network()))
    with pytest.raises(PursuhintError, match=r"has 16 tokens, 4 x 4 patches and no class token"):
        ClassToken().check(points_of(TokenNetwork()))


def test_names_lead_to_poolings_and_back():
    assert [str(get_pooling(name)) for name in POOLINGS] == ["mean", "max", "class-token", "none:2"]
    assert get_pooling("none:4") == GridOfPositions(4)
    with pytest.raises(PursuhintError, match="no pooling named 'men'; did you mean 'mean'"):
        get_pooling("men")
    for wrong in ("mean:2", "none:", "none:-1", "none:x"):
        with pytest.raises(PursuhintError, match="only none takes a number"):
            get_pooling(wrong)
    with pytest.raises(PursuhintError, match="at least one place along each side, got 0"):
        get_pooling("none:0")


def test_other_numbers_of_axes_are_refused():
    for name in ("mean", "max", "none"):
        with pytest.raises(PursuhintError, match=r"found shape \(3,\)"):
            get_pooling(name)(torch.zeros(3))


def test_listing_names_imports_nothing_heavy():
    code = "import sys, pursuhint.features.pooling; print('torch' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"


@pytest.mark.parametrize("name", ["max", "none:2"])
def test_an_analysis_compares_the_pooled_features(name):
    network, data = plain_network(), noise_images()
    found = analyze(network, data, pooling=name, k=2)
    images = next(make_loader(data, "train", batch_size=60, training=False).epoch(0)).images
    features = [
        get_pooling(name)(layer)
        for layer in FeatureExtractor(network.eval(), found.layers.points)(images).maps
    ]
    expected = torch.stack([torch.stack([linear_cka(x, y) for y in features]) for x in features])
    torch.testing.assert_close(found.similarities["cka"].values, expected, atol=1e-5, rtol=0)
    assert found.provenance.pooling == name


def test_an_analysis_remembers_its_pooling(tmp_path):
    analyze(plain_network(), noise_images(), pooling="none:3", k=2, stability=False).save(tmp_path)
    assert Analysis.load(tmp_path).provenance.pooling == "none:3"


def test_a_pooling_that_does_not_fit_is_refused_before_the_pass():
    seen: list[int] = []
    with pytest.raises(PursuhintError, match="is a feature map and has no class token"):
        analyze(
            plain_network(), noise_images(), pooling="class-token", on_progress=lambda *done: seen.append(1)
        )
    with pytest.raises(PursuhintError, match="no pooling named 'sum'"):
        analyze(plain_network(), noise_images(), pooling="sum")
    assert seen == []


def test_two_networks_are_compared_with_the_pooling():
    network, data = plain_network(), noise_images()
    found = compare_networks(network, network, data, pooling="max")["cka"].values
    own = analyze(network, data, pooling="max", k=2).similarities["cka"].values
    torch.testing.assert_close(found, own, atol=1e-9, rtol=0)
