"""Every metric: against NumPy on hard features, in both styles, and what it must and must not notice."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.similarity import (
    METRICS,
    LayerMoments,
    get_metric,
    similarities_between,
    similarity_matrices,
    svcca,
)
from tests.helpers.hard_features import SETS, basis, hard_set, reference
from tests.helpers.statistics_layouts import LAYOUTS, LINEAR_METRICS, batches, statistics_of

METRIC_NAMES = list(METRICS)
NEAR_ONE = 1e-6
"""What the arc cosine makes of rounding errors near 1."""
CASES = [
    (name, layout)
    for name in METRIC_NAMES
    for layout in LAYOUTS
    if layout == "rows" or get_metric(name).needs == "moments"
]


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
    if len(layers[0]) < metric.samples:
        layout = "rows" if metric.needs == "rows" else "moments"
        for compute in (
            lambda: metric.pair(*layers[:2]),
            lambda: metric.matrix(statistics_of(layout, layers)),
        ):
            with pytest.raises(PursuhintError, match=f"needs at least {metric.samples} samples, got 2"):
                compute()
        return
    expected = reference(name, layers)
    assert np.isfinite(expected).all() or name == "pwcca"
    pairs = np.array([[float(metric.pair(x, y)) for y in layers] for x in layers])
    assert np.isfinite(pairs).all()
    unique = np.isfinite(expected)
    tolerance = NEAR_ONE if name == "angular-procrustes" else 1e-10
    np.testing.assert_allclose(pairs[unique], expected[unique], rtol=0, atol=tolerance)
    for layout in LAYOUTS if metric.needs == "moments" else ["rows"]:
        matrix = metric.matrix(statistics_of(layout, layers))
        np.testing.assert_allclose(matrix, pairs, rtol=0, atol=tolerance, err_msg=layout)


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
    for layout in LAYOUTS if metric.needs == "moments" else ["rows"]:
        matrix = metric.matrix(statistics_of(layout, [copied]))
        assert float(matrix[0, 0]) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_rotation_shift_and_scale_do_not_matter(name, features, others, generator):
    pair = get_metric(name).pair
    rotation = torch.linalg.qr(torch.randn(6, 6, generator=generator, dtype=torch.float64))[0]
    torch.testing.assert_close(pair(others, -7 * features @ rotation + 5), pair(others, features))
    torch.testing.assert_close(pair(-7 * features + 5, others), pair(features, others))
    if name != "pwcca":  # whose weights add up what single features of x share with a direction
        torch.testing.assert_close(pair(features @ rotation, others), pair(features, others))


@pytest.mark.parametrize("name", ["r2cca", "r2cca-rank", "gcd"])
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
    torch.testing.assert_close(pair(features, features), torch.ones((), dtype=torch.float64))
    if get_metric(name).symmetric:
        torch.testing.assert_close(pair(features, others), pair(others, features))
    else:
        assert abs(pair(features, others) - pair(others, features)) > 1e-6


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_order_of_samples_does_not_matter(name, layout, features, others, generator):
    metric = get_metric(name)
    order = torch.randperm(120, generator=generator)
    torch.testing.assert_close(
        metric.matrix(statistics_of(layout, [features[order], others[order]])),
        metric.matrix(statistics_of(layout, [features, others], sizes=(50,))),
        rtol=0,
        atol=1e-12,
    )


@pytest.mark.parametrize(("name", "layout"), CASES)
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_any_magnitude(name, layout, features, others, scale):
    metric = get_metric(name)
    expected = metric.pair(features, others)
    torch.testing.assert_close(metric.pair(features * scale, others), expected)
    matrix = metric.matrix(statistics_of(layout, [features * scale, others]))
    torch.testing.assert_close(matrix[0, 1], expected)


def test_r2cca_counts_columns_and_its_rank_form_directions(features):
    doubled = torch.cat([features, features], dim=1)
    assert float(get_metric("r2cca").pair(doubled, doubled)) == pytest.approx(0.5)
    assert float(get_metric("r2cca-rank").pair(doubled, doubled)) == pytest.approx(1)
    matrix = get_metric("r2cca").matrix(statistics_of("moments", [features, doubled]))
    torch.testing.assert_close(matrix, torch.tensor([[1, 1], [1, 0.5]], dtype=torch.float64))


@pytest.mark.parametrize(("name", "layout"), CASES)
@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_no_variance_is_nan(name, layout, features, value):
    metric = get_metric(name)
    constant = torch.full((120, 4), value, dtype=torch.float64)
    assert metric.pair(constant, features).isnan()
    assert metric.pair(features, constant).isnan()
    expected = torch.tensor([[1, torch.nan], [torch.nan, torch.nan]], dtype=torch.float64)
    matrix = metric.matrix(statistics_of(layout, [features, constant]))
    torch.testing.assert_close(matrix, expected, equal_nan=True)


@pytest.mark.parametrize("name", METRIC_NAMES)
def test_variance_below_the_rounding_of_the_type_is_none(name, features):
    metric = get_metric(name)
    one = torch.ones(120, 1, dtype=torch.float32)
    one[::2] += torch.finfo(torch.float32).eps / 2  # rounds to 1
    assert metric.pair(one, features).isnan()
    half = features.to(torch.bfloat16)
    assert not metric.pair(half, features).isnan()


@pytest.mark.parametrize(("name", "layout"), CASES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_low_precision_features_are_computed_in_float64(name, layout, features, others, dtype):
    metric = get_metric(name)
    x, y = features.to(dtype), others.to(dtype)
    actual = metric.pair(x, y)
    assert actual.dtype == torch.float64
    torch.testing.assert_close(actual, metric.pair(x.double(), y.double()), rtol=0, atol=1e-12)
    matrix = metric.matrix(statistics_of(layout, [x, y]))
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


@pytest.mark.parametrize(("name", "layout"), CASES)
def test_matrix_needs_two_samples(name, layout):
    with pytest.raises(PursuhintError, match="at least 2 samples, got 1"):
        get_metric(name).matrix(statistics_of(layout, [torch.ones(1, 2)]))


def test_table_names_metrics():
    for name in METRICS:
        metric = get_metric(name)
        assert metric.name == name
        assert metric.name in METRICS
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


def test_debiased_cka_of_independent_features_is_near_zero_where_cka_is_not(generator):
    x, y = (torch.randn(30, 40, generator=generator, dtype=torch.float64) for _ in range(2))
    assert float(get_metric("cka").pair(x, y)) > 0.5
    assert abs(float(get_metric("debiased-cka").pair(x, y))) < 0.1


def test_a_feature_of_one_sample_is_nothing_to_debiased_cka(features):
    one = torch.zeros(120, 3, dtype=torch.float64)
    one[7, 1] = 1
    metric = get_metric("debiased-cka")
    assert metric.pair(one, features).isnan()
    matrix = metric.matrix(statistics_of("moments", [one, features]))
    assert matrix.isnan().tolist() == [[True, True], [True, False]]


def test_gcd_notices_what_r2cca_by_rank_does_not(features):
    half = features[:, :3]
    assert float(get_metric("r2cca-rank").pair(features, half)) == pytest.approx(1)
    assert float(get_metric("gcd").pair(features, half)) == pytest.approx((3 / 6) ** 0.5)


def test_svcca_keeps_the_share_of_variance_asked_for(generator):
    x = torch.linalg.qr(torch.randn(50, 4, generator=generator, dtype=torch.float64))[0]
    x = x - x.mean(0)
    left, _, right = torch.linalg.svd(x, full_matrices=False)
    spectrum = torch.tensor([10.0, 1.0, 0.1, 0.01], dtype=torch.float64)
    x = (left * spectrum) @ right
    for count, share in ((1, 0.98), (2, 0.999), (3, 0.99999), (4, 1.0)):
        one = left[:, count - 1 : count]
        kept = float(svcca(x, one, variance=share))
        assert kept == pytest.approx(1)
        if count < 4:
            assert float(svcca(x, left[:, count : count + 1], variance=share)) == pytest.approx(0, abs=1e-6)
    for wrong in (0.0, 1.5):
        with pytest.raises(PursuhintError, match="variance must be above 0 and at most 1"):
            svcca(x, x, variance=wrong)


def test_pwcca_of_tied_correlations_does_not_depend_on_the_basis(generator):
    # Fewer samples than both ranks together: the two spans share directions, all of correlation 1.
    x, y = (torch.randn(30, 20, generator=generator, dtype=torch.float64) for _ in range(2))
    pair = get_metric("pwcca").pair
    expected = pair(x, y)
    assert 0 < float(expected) < 1
    mixed = y @ torch.randn(20, 20, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(pair(x, mixed), expected)
    order = torch.randperm(30, generator=generator)
    torch.testing.assert_close(pair(x[order], y[order]), expected)


def test_pwcca_of_a_zero_correlation_does_not_depend_on_the_basis(generator):
    # The last feature of y lives on samples where x is constant: one correlation is exactly zero, and x has
    # more than one direction that is uncorrelated with y.
    x, y = (torch.randn(60, width, generator=generator, dtype=torch.float64) for width in (6, 3))
    x[40:], y[:40, 2], y[40:, :2] = 0, 0, 0
    x -= x[:40].mean(0) * (torch.arange(60) < 40)[:, None]
    correlations = torch.linalg.svdvals(torch.linalg.qr(x)[0].T @ torch.linalg.qr(y - y.mean(0))[0])
    assert correlations[1] > 0.1
    assert correlations[2] < 1e-12
    metric = get_metric("pwcca")
    expected = metric.pair(x, y)
    mixed = y @ torch.randn(3, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(metric.pair(x, mixed), expected)
    for layout in LAYOUTS:
        matrix = metric.matrix(statistics_of(layout, [x, mixed]))
        torch.testing.assert_close(matrix[0, 1], expected)
    # All that is uncorrelated with y adds nothing to the numerator; its largest axis is what the sum of
    # weights takes.
    axes = torch.linalg.svd(torch.linalg.qr(x)[0].T @ torch.linalg.qr(y - y.mean(0))[0])[0]
    rest = (torch.linalg.qr(x)[0] @ axes[:, 2:]).T @ x
    largest = torch.linalg.svd(rest, full_matrices=False)
    weights = (torch.linalg.qr(x)[0] @ axes[:, :2]).T @ x
    open_weight = (largest.S[0] * largest.Vh[0]).abs().sum()
    numerator = weights.abs().sum(1) @ correlations[:2]
    torch.testing.assert_close(numerator / (weights.abs().sum() + open_weight), expected)


def test_procrustes_is_the_best_rotation(features, others, generator):
    x, y = (layer - layer.mean(0) for layer in (features, others))
    x, y = torch.nn.functional.pad(x / x.norm(), (0, 3)), y / y.norm()
    best = float(get_metric("procrustes").pair(features, others))
    tried = [
        float((x @ torch.linalg.qr(torch.randn(9, 9, generator=generator, dtype=torch.float64))[0] * y).sum())
        for _ in range(50)
    ]
    assert max(tried) < best
    left, _, right = torch.linalg.svd(x.T @ y)
    assert float((x @ left @ right * y).sum()) == pytest.approx(best)


def test_single_precision_products_are_enough_for_the_metrics_that_say_so():
    names = [name for name in METRIC_NAMES if get_metric(name).single]
    assert names == ["cka", "procrustes"]
    for hard in SETS:
        layers = [layer.float() for layer in hard_set(hard)]
        if hard == "different-scales":  # squares of squares leave the range of float32
            continue
        exact, rough = (
            LayerMoments([layer.shape[1] for layer in layers], products=products)
            for products in (torch.float64, torch.float32)
        )
        for batch in batches(layers, [64]):
            exact.update(batch)
            rough.update(batch)
        for name in names:
            matrix = get_metric(name).matrix
            torch.testing.assert_close(matrix(rough), matrix(exact), rtol=0, atol=1e-5)


def test_several_metrics_share_their_work(features, others):
    layers = statistics_of("moments", [features, others])
    metrics = [get_metric(name) for name in LINEAR_METRICS]
    found = similarity_matrices(layers, metrics)
    assert list(found) == LINEAR_METRICS
    for name, matrix in found.items():
        torch.testing.assert_close(matrix, get_metric(name).matrix(layers), rtol=0, atol=0)


def test_between_two_networks(features, others):
    layers = [features, others, features[:, :3]]
    found = similarities_between(statistics_of("moments", layers), 1, [get_metric("pwcca")])["pwcca"]
    pair = get_metric("pwcca").pair
    expected = torch.stack([pair(features, others), pair(features, layers[2])])[None]
    torch.testing.assert_close(found, expected)
    for first in (0, 3):
        with pytest.raises(PursuhintError, match=f"must have 1 to 2 of the layers, got {first}"):
            similarities_between(statistics_of("moments", layers), first, [get_metric("cka")])
