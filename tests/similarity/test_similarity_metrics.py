"""Every metric: against NumPy on hard features, in both styles, and what it must and must not notice."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hard_features import SETS, basis, hard_set, reference

from pursuhint.errors import PursuhintError
from pursuhint.similarity import METRICS, LayerMoments, get_metric

METRIC_NAMES = list(METRICS)


def moments_of(layers, sizes=(1, 7, 64)):
    moments = LayerMoments([layer.shape[1] for layer in layers])
    start = 0
    while start < len(layers[0]):
        for size in sizes:
            moments.update([layer[start : start + size] for layer in layers])
            start += size
    return moments


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def features(generator):
    return torch.randn(120, 6, generator=generator, dtype=torch.float64) + 3


@pytest.fixture
def others(features, generator):
    noise = torch.randn(120, 9, generator=generator, dtype=torch.float64)
    return features @ torch.randn(6, 9, generator=generator, dtype=torch.float64) + noise


@pytest.mark.parametrize("name", METRIC_NAMES)
@pytest.mark.parametrize("hard", SETS)
def test_equals_definition(name, hard):
    layers = hard_set(hard)
    metric = get_metric(name)
    expected = reference(name, layers)
    pairs = [[float(metric.pair(x, y)) for y in layers] for x in layers]
    np.testing.assert_allclose(pairs, expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(metric.matrix(moments_of(layers)), expected, rtol=0, atol=1e-10)


def test_the_hard_sets_are_hard():
    ranks = {name: [basis(layer).shape[1] for layer in hard_set(name)] for name in SETS}
    assert ranks["rank-deficient"][-1] == 5
    assert ranks["dead-channels"] == [9, 17, 2]
    assert ranks["fewer-samples-than-channels"] == [16, 19, 19, 8]
    assert ranks["two-samples"] == [1, 1, 1]
    layer = hard_set("mean-100-std")[0]
    assert (layer.mean(0) / layer.std(0)).max() > 50


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_rank_rule_sees_through_float32_rounding(name):
    # In float32 a third of a channel is not an exact multiple of it: it spans a direction of pure rounding.
    x = hard_set("mean-100-std")[0]
    copied = torch.cat([x, x / 3], dim=1).to(torch.float32)
    metric = get_metric(name)
    expected = reference(name, [x, x])[0, 1] / (2 if name == "r2cca" else 1)
    assert float(metric.pair(copied, copied)) == pytest.approx(expected, abs=1e-3)
    assert float(metric.matrix(moments_of([copied]))[0, 0]) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_rotation_shift_and_scale_do_not_matter(name, features, others, generator):
    pair = get_metric(name).pair
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))[0]
    torch.testing.assert_close(pair(-7 * features @ rotation + 5, others), pair(features, others))


@pytest.mark.parametrize("name", ["r2cca", "r2cca-rank"])
def test_invertible_maps_do_not_matter_to_cca(name, features, others, generator):
    pair = get_metric(name).pair
    mapped = features @ torch.randn(6, 6, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(pair(mapped, others), pair(features, others))


def test_invertible_maps_matter_to_cka(features, others):
    pair = get_metric("cka").pair
    stretched = features * torch.tensor([100.0, 1, 1, 1, 1, 1], dtype=torch.float64)
    assert abs(pair(stretched, others) - pair(features, others)) > 0.01


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_symmetric_in_range_and_one_with_itself(name, features, others):
    pair = get_metric(name).pair
    assert 0 < float(pair(features, others)) < 1
    torch.testing.assert_close(pair(features, others), pair(others, features))
    torch.testing.assert_close(pair(features, features), torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_order_of_samples_does_not_matter(name, features, others, generator):
    metric = get_metric(name)
    order = torch.randperm(120, generator=generator)
    torch.testing.assert_close(
        metric.matrix(moments_of([features[order], others[order]])),
        metric.matrix(moments_of([features, others], sizes=(50,))),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize("name", METRIC_NAMES)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_any_magnitude(name, features, others, scale):
    metric = get_metric(name)
    expected = metric.pair(features, others)
    torch.testing.assert_close(metric.pair(features * scale, others), expected)
    torch.testing.assert_close(metric.matrix(moments_of([features * scale, others]))[0, 1], expected)


def test_r2cca_counts_columns_and_its_rank_form_directions(features):
    doubled = torch.cat([features, features], dim=1)
    assert float(get_metric("r2cca").pair(doubled, doubled)) == pytest.approx(0.5)
    assert float(get_metric("r2cca-rank").pair(doubled, doubled)) == pytest.approx(1)
    matrix = get_metric("r2cca").matrix(moments_of([features, doubled]))
    torch.testing.assert_close(matrix, torch.tensor([[1, 1], [1, 0.5]], dtype=torch.float64))


@pytest.mark.parametrize("name", METRIC_NAMES)
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_no_variance_is_nan(name, features, value):
    metric = get_metric(name)
    constant = torch.full((120, 4), value, dtype=torch.float64)
    assert metric.pair(constant, features).isnan()
    assert metric.pair(features, constant).isnan()
    expected = torch.tensor([[1, torch.nan], [torch.nan, torch.nan]], dtype=torch.float64)
    torch.testing.assert_close(metric.matrix(moments_of([features, constant])), expected, equal_nan=True)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_variance_below_the_rounding_of_the_type_is_none(name, features):
    metric = get_metric(name)
    one = torch.ones(120, 1, dtype=torch.float32)
    one[::2] += torch.finfo(torch.float32).eps / 2  # rounds to 1
    assert metric.pair(one, features).isnan()
    half = features.to(torch.bfloat16)
    assert not metric.pair(half, features).isnan()


@pytest.mark.parametrize("name", METRIC_NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_features_are_computed_in_float64(name, features, others, dtype):
    metric = get_metric(name)
    x, y = features.to(dtype), others.to(dtype)
    actual = metric.pair(x, y)
    assert actual.dtype == torch.float64
    torch.testing.assert_close(actual, metric.pair(x.double(), y.double()), rtol=0, atol=1e-12)
    matrix = metric.matrix(moments_of([x, y]))
    torch.testing.assert_close(matrix[0, 1], actual, rtol=0, atol=1e-12)


def test_features_with_gradients_are_accepted(features, others):
    assert not get_metric("cka").pair(features.requires_grad_(), others).requires_grad


@pytest.mark.parametrize("name", METRIC_NAMES)
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (torch.ones(4, 2, 3), torch.ones(4, 2), r"x must be of shape \(samples, features\), got \(4, 2, 3\)"),
        (torch.ones(4, 2), torch.ones(4, 0), r"y must be of shape \(samples, features\), got \(4, 0\)"),
        (torch.ones(4, 2), torch.ones(3, 2), "same samples, got 4 and 3"),
        (torch.ones(1, 2), torch.ones(1, 2), "at least 2 samples, got 1"),
        (torch.ones(0, 2), torch.ones(0, 2), "at least 2 samples, got 0"),
        (torch.ones(4, 2).int(), torch.ones(4, 2), "x must hold floating-point numbers, got torch.int32"),
        (torch.ones(4, 2), torch.full((4, 2), torch.nan), "y holds NaN or infinity"),
        (torch.full((4, 2), -torch.inf), torch.ones(4, 2), "x holds NaN or infinity"),
    ],
)
def test_bad_input_is_explained(name, x, y, message):
    with pytest.raises(PursuhintError, match=message):
        get_metric(name).pair(x, y)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_matrix_needs_two_samples(name):
    moments = LayerMoments([2])
    moments.update([torch.ones(1, 2)])
    with pytest.raises(PursuhintError, match="at least 2 samples, got 1"):
        get_metric(name).matrix(moments)


def test_table_names_metrics_and_what_they_are_clustered_with():
    for name in METRICS:
        metric = get_metric(name)
        assert metric.name == name
        assert get_metric(metric.for_clustering).for_clustering == metric.for_clustering
    with pytest.raises(PursuhintError, match="no metric named 'r2ca'; did you mean 'r2cca'"):
        get_metric("r2ca")


def test_tables_import_without_torch():
    code = (
        "import sys, pursuhint.similarity, pursuhint.clustering;"
        "print(sorted(pursuhint.similarity.METRICS), sorted(pursuhint.clustering.ALGORITHMS));"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_public_names_exist():
    import pursuhint.clustering
    import pursuhint.similarity

    for package in (pursuhint.similarity, pursuhint.clustering):
        for name in package.__all__:
            assert getattr(package, name) is not None
        with pytest.raises(AttributeError, match="no attribute 'nothing'"):
            _ = package.nothing
