"""PooledFeatures: the features are all there, and give what moments give."""

from __future__ import annotations

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.similarity import METRICS, PooledFeatures, get_metric
from tests.helpers.hard_features import hard_set
from tests.helpers.statistics_layouts import LINEAR_METRICS, batches, statistics_of


def rows_of(layers, size=1000, first=0, **options):
    rows = PooledFeatures([layer.shape[1] for layer in layers], **options)
    for batch in batches(layers, [size]):
        rows.update(batch, samples=torch.arange(first, first + len(batch[0])))
        first += len(batch[0])
    return rows


def assert_same(actual, expected):
    assert actual.count == expected.count
    assert actual.eps == expected.eps
    for name in METRICS:
        torch.testing.assert_close(
            get_metric(name).matrix(actual), get_metric(name).matrix(expected), rtol=0, atol=1e-10
        )


@pytest.fixture
def layers():
    return hard_set("ordinary")


@pytest.mark.parametrize("size", [1, 33, 300])
@pytest.mark.parametrize("capacity", [0, 100, 300, 1000])
def test_keeps_the_features(layers, size, capacity):
    rows = rows_of(layers, size, capacity=capacity)
    for i, layer in enumerate(layers):
        assert torch.equal(rows.features(i), layer)
    assert torch.equal(rows.numbers, torch.arange(300))


def test_keeps_the_type_of_the_features_but_no_less_than_float32(layers):
    rows = PooledFeatures([16, 16, 24, 32])
    assert rows_of([layer.half() for layer in layers]).rows.dtype == torch.float32
    rows.update([layer.float() for layer in layers])
    assert rows.rows.dtype == torch.float32
    rows.update(layers)
    assert rows.rows.dtype == torch.float64
    assert rows.eps == [torch.finfo(torch.float32).eps] * 4
    torch.testing.assert_close(rows.features(2)[300:], layers[2], rtol=0, atol=0)


@pytest.mark.parametrize("name", ["ordinary", "mean-100-std", "fewer-samples-than-channels"])
def test_reads_as_moments_do(name):
    layers = hard_set(name)
    rows, moments = rows_of(layers, 64), statistics_of("moments", layers)
    scale = max(float(moments.cross(i, i).abs().max()) for i in range(len(layers)))
    for i in range(len(layers)):
        torch.testing.assert_close(rows.mean(i), moments.mean(i))
        torch.testing.assert_close(rows.mean_square(i), moments.mean_square(i))
        torch.testing.assert_close(rows.spread(i), moments.spread(i))
        torch.testing.assert_close(rows.variation(i), moments.variation(i))
        for j in range(len(layers)):
            torch.testing.assert_close(rows.cross(i, j), moments.cross(i, j), rtol=0, atol=1e-12 * scale)
    torch.testing.assert_close(rows.row_norm_products(), moments.row_norm_products())
    again = rows.moments()
    assert (again.count, again.eps) == (rows.count, rows.eps)
    torch.testing.assert_close(again.cross(0, 1), moments.cross(0, 1), rtol=0, atol=1e-12 * scale)


def test_layers_wider_than_the_samples_are_read_in_as_many_coordinates():
    rows = rows_of(hard_set("fewer-samples-than-channels"))
    assert rows.widths == (16, 48, 64, 8)
    assert rows.coordinates == (16, 20, 20, 8)
    assert rows.strip(1).shape == (20, 48)
    assert rows.loadings(1).shape == (19, 48)


def test_ill_conditioned_layers_are_exact_where_moments_are_not():
    # Channels that differ by a factor of 10^4, rotated: squaring them costs eight digits.
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(400, 12, generator=generator, dtype=torch.float64) for _ in range(2))
    spread = torch.logspace(0, -4, 12, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(12, 12, generator=generator, dtype=torch.float64))[0]
    layers = [(x * spread) @ rotation, x + y]
    for name in ("r2cca", "svcca", "pwcca"):
        expected = get_metric(name).pair(*layers)
        found = get_metric(name).matrix(rows_of(layers))[0, 1]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_merging_parts_equals_the_whole(layers):
    merged = PooledFeatures([layer.shape[1] for layer in layers])
    for start, end in ((0, 100), (100, 100), (100, 300)):
        merged.merge(rows_of([layer[start:end] for layer in layers], 16, first=start))
    assert_same(merged, rows_of(layers))
    with pytest.raises(PursuhintError, match=r"cannot merge rows of widths \(3,\) into widths \(2,\)"):
        PooledFeatures([2]).merge(PooledFeatures([3]))


def test_some_samples(layers):
    rows = rows_of(layers)
    chosen = torch.arange(0, 300, 2)
    part = rows.select(chosen)
    assert torch.equal(part.numbers, chosen)
    assert_same(part, rows_of([layer[chosen] for layer in layers]))
    moments = rows.moments(chosen)
    assert moments.count == 150
    for name in LINEAR_METRICS:
        matrix = get_metric(name).matrix
        torch.testing.assert_close(matrix(moments), matrix(part), rtol=0, atol=1e-10)


def test_bad_batches_are_refused_and_leave_the_rows_as_they_were():
    rows = PooledFeatures([2, 3], names=["layer1.0", "layer1.1"])
    rows.update([torch.ones(4, 2), torch.ones(4, 3)])
    with pytest.raises(PursuhintError, match=r"the features of layer1\.1 hold NaN or infinity in batch 2"):
        rows.update([torch.ones(4, 2), torch.full((4, 3), torch.inf)])
    with pytest.raises(PursuhintError, match="in batch 9"):
        rows.update([torch.ones(4, 2), torch.full((4, 3), torch.nan)], batch=9)
    assert rows.count == 4
    with pytest.raises(PursuhintError, match="at least 1 samples, got 0"):
        _ = PooledFeatures([2]).rows
