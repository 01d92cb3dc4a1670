"""RBF CKA: tiles, bandwidths, and many parts of the samples from one pass."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.spatial
import torch

from pursuhint.errors import PursuhintError
from pursuhint.similarity import PooledFeatures, get_metric, rbf_cka, rbf_cka_matrix
from pursuhint.similarity import bandwidth as bandwidth_module
from pursuhint.similarity import kernel as kernel_module
from pursuhint.similarity.bandwidth import bandwidths
from pursuhint.similarity.kernel import rbf_cka_matrices, with_exact_median
from tests.helpers.hard_features import chained, hard_set, reference
from tests.helpers.statistics_layouts import statistics_of


def rows_of(layers, numbers=None):
    rows = PooledFeatures([layer.shape[1] for layer in layers])
    rows.update([torch.as_tensor(layer) for layer in layers], samples=numbers)
    return rows


def exact_bandwidth(features: np.ndarray, over: str) -> float:
    if over == "pairs":
        return float(np.median(scipy.spatial.distance.pdist(features.astype(np.float64))) ** 2)
    distances = scipy.spatial.distance.cdist(features.astype(np.float64), features.astype(np.float64))
    return float(np.median(distances**2))


@pytest.mark.parametrize("samples", [2, 3, 4, 63, 64, 65, 256, 257, 320, 700])
@pytest.mark.parametrize("over", ["all", "pairs"])
def test_any_number_of_samples(samples, over):
    layers = [torch.from_numpy(layer).double() for layer in chained(samples, [5, 8])]
    name = "rbf-cka" if over == "all" else "rbf-cka-pairs"
    found = get_metric(name).matrix(rows_of(layers))
    np.testing.assert_allclose(found, reference(name, layers), rtol=0, atol=1e-11)


def test_tiles_of_any_size_give_the_same(monkeypatch):
    rows = rows_of(chained(150, [5, 8, 3]))
    expected = rbf_cka_matrix(rows)
    for tile in ((32, 32), (64, 16), (300, 300)):
        monkeypatch.setattr(kernel_module, "_tile", lambda layers, device, tile=tile: tile)
        torch.testing.assert_close(rbf_cka_matrix(rows), expected, rtol=0, atol=1e-13)


@pytest.mark.parametrize("over", ["all", "pairs"])
@pytest.mark.parametrize("samples", [2, 3, 4, 5, 90, 91])
def test_exact_medians(samples, over):
    layers = chained(samples, [4, 7])
    expected = [exact_bandwidth(layer, over) for layer in layers]
    np.testing.assert_allclose(bandwidths(rows_of(layers), over=over), expected, rtol=1e-12)


@pytest.mark.parametrize("over", ["all", "pairs"])
@pytest.mark.parametrize("held", [10, 300, 5000])
def test_exact_medians_when_distances_do_not_fit(monkeypatch, over, held):
    monkeypatch.setattr(bandwidth_module, "HELD", held)
    generator = np.random.default_rng(0)
    skewed = generator.standard_normal((300, 3)) ** 5
    ties = generator.integers(0, 3, (300, 2)).astype(np.float64)
    layers = [*chained(300, [4, 60]), skewed, ties]
    expected = [exact_bandwidth(layer, over) for layer in layers]
    np.testing.assert_allclose(bandwidths(rows_of(layers), over=over), expected, rtol=1e-12)


@pytest.mark.parametrize("over", ["all", "pairs"])
def test_medians_of_some_samples_are_near_those_of_all(over):
    rows = rows_of(chained(1500, [8, 16, 32]))
    exact, drawn = bandwidths(rows, over=over), bandwidths(rows, over=over, median_rows=400)
    assert not torch.equal(exact, drawn)
    torch.testing.assert_close(drawn, exact, rtol=0.05, atol=0)
    metric = get_metric("rbf-cka" if over == "all" else "rbf-cka-pairs")
    some = rbf_cka_matrix(rows, over=over, median_rows=400)
    torch.testing.assert_close(some, with_exact_median(metric).matrix(rows), rtol=0, atol=2e-3)


def test_which_samples_are_drawn_depends_on_their_numbers_not_on_their_order():
    layers = chained(200, [8, 16])
    order = torch.randperm(200, generator=torch.Generator().manual_seed(0))
    expected = bandwidths(rows_of(layers), median_rows=20)
    shuffled = [torch.from_numpy(layer)[order] for layer in layers]
    torch.testing.assert_close(bandwidths(rows_of(shuffled, order), median_rows=20), expected)
    assert not torch.allclose(bandwidths(rows_of(shuffled), median_rows=20), expected)


def test_exact_median_is_for_metrics_that_have_one():
    assert with_exact_median(get_metric("cka")) is get_metric("cka")
    rows = rows_of(chained(100, [8, 16]))
    for name in ("rbf-cka", "rbf-cka-pairs"):
        metric = with_exact_median(get_metric(name))
        assert metric.name == name
        torch.testing.assert_close(metric.matrix(rows), get_metric(name).matrix(rows))


@pytest.mark.parametrize("over", ["all", "pairs"])
def test_parts_of_the_samples_from_one_pass(over):
    rows = rows_of(chained(200, [5, 8, 3]))
    groups = torch.randint(4, (200,), generator=torch.Generator().manual_seed(0))
    subsets = torch.tensor([[1, 1, 1, 1], [1, 0, 1, 1], [0, 1, 0, 1], [0, 0, 1, 0]], dtype=torch.bool)
    found = rbf_cka_matrices(rows, groups, subsets, over=over)
    torch.testing.assert_close(found[0], rbf_cka_matrix(rows, over=over))
    kernels = []
    for i, squared in enumerate(bandwidths(rows, over=over)):
        distances = torch.cdist(rows.features(i).double(), rows.features(i).double()).square()
        kernels.append(torch.exp(-distances / (2 * 0.8**2 * squared)))
    for subset, matrix in zip(subsets, found):
        chosen = subset[groups]
        centered = []
        for kernel in kernels:
            part = kernel[chosen][:, chosen]
            part = part - part.mean(0)
            centered.append(part - part.mean(1, keepdim=True))
        flat = torch.stack([part.flatten() for part in centered])
        torch.testing.assert_close(matrix, torch.corrcoef(flat), rtol=0, atol=1e-10)


def test_groups_must_fit_the_samples():
    rows = rows_of(chained(20, [5]))
    whole = torch.ones(1, 2, dtype=torch.bool)
    for groups in (torch.zeros(19, dtype=torch.int64), torch.full((20,), 2), torch.full((20,), -1)):
        with pytest.raises(PursuhintError, match="groups must be 20 numbers from 0 to 1, one a sample"):
            rbf_cka_matrices(rows, groups, whole)


def test_mostly_equal_samples_have_no_median_distance():
    x = torch.zeros(40, 3)
    x[:8] = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    y = hard_set("ordinary")[0][:40].float()
    assert rbf_cka(x, y).isnan()
    matrix = rbf_cka_matrix(rows_of([x + 0.1, y]))
    assert matrix.isnan().tolist() == [[True, True], [True, False]]


def test_a_wide_kernel_is_linear():
    x, y = (layer.double() for layer in hard_set("ordinary")[:2])
    linear = get_metric("cka").pair(x, y)
    torch.testing.assert_close(rbf_cka(x, y, fraction=200), linear, rtol=0, atol=1e-4)
    assert abs(rbf_cka(x, y) - linear) > 1e-3


def test_bad_options():
    rows = rows_of(chained(20, [5, 6]))
    with pytest.raises(PursuhintError, match="fraction must be positive, got 0"):
        rbf_cka_matrix(rows, fraction=0)
    with pytest.raises(PursuhintError, match="needs at least 2 samples, got median_rows=1"):
        rbf_cka_matrix(rows, median_rows=1)
    with pytest.raises(PursuhintError, match="the median is over 'all' or 'pairs', not 'some'"):
        rbf_cka_matrix(rows, over="some")
    moments = statistics_of("moments", [torch.ones(4, 2)])
    with pytest.raises(
        PursuhintError, match=r"needs the features themselves \(PooledFeatures\), not LayerMoments"
    ):
        rbf_cka_matrix(moments)


@pytest.mark.parametrize("scale", [1e200, 1e-200, 1e300, 1e-300])
def test_rbf_cka_of_very_large_and_small_features(scale):
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(40, width, generator=generator, dtype=torch.float64) for width in (6, 4))
    torch.testing.assert_close(rbf_cka(scale * x, scale * y), rbf_cka(x, y), rtol=1e-12, atol=0)


@pytest.mark.parametrize("scale", [1e200, 1e-200])
@pytest.mark.parametrize("layout", ["rows", "moments"])
def test_statistics_that_float64_cannot_hold_are_refused(layout, scale):
    features = torch.randn(40, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    with pytest.raises(PursuhintError, match="where their statistics fit float64"):
        statistics_of(layout, [features, scale * features])
    statistics_of(layout, [features, 1e50 * features, torch.zeros_like(features)])
