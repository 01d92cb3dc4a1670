"""Similarities on shards of the samples equal those of the same samples measured anew."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from pursuhint.data.sample_order import SampleOrder
from pursuhint.errors import PursuhintError
from pursuhint.similarity import METRICS, LayerMoments, get_metric
from pursuhint.similarity.accumulators.pooled_features import PooledFeatures
from pursuhint.similarity.accumulators.shards import MomentShards, RowShards
from pursuhint.similarity.resampling import (
    FEWEST_HALVES,
    MOST_HALVES,
    halves_for,
    halves_of,
    resample,
    subsets_of,
)

WIDTHS = (5, 8, 8, 12)
SAMPLES = 200


def features(seed=0, *, offset=3.0):
    """Chained layers with means of several standard deviations; the third has dead and repeated channels."""
    generator = torch.Generator().manual_seed(seed)
    layers = [torch.randn(SAMPLES, WIDTHS[0], generator=generator)]
    for width in WIDTHS[1:]:
        weights = torch.randn(layers[-1].shape[1], width, generator=generator)
        noise = torch.randn(SAMPLES, width, generator=generator)
        layers.append(torch.tanh(layers[-1] @ weights) + 0.3 * noise + offset)
    layers[2][:, 3] = 1.5
    layers[2][:, 4] = layers[2][:, 0]
    return layers


def order_of(shards=10, batch_size=32):
    return SampleOrder.of(torch.arange(SAMPLES), shards=shards, seed=1, batch_size=batch_size)


def filled(accumulator, layers, order):
    for step in order.steps():
        samples = order.indices_of([step])
        accumulator.update([layer[samples] for layer in layers], samples=samples)
    accumulator.finish()
    return accumulator


def moment_shards(layers, **options):
    order = order_of()
    widths = [layer.shape[1] for layer in layers]
    return filled(MomentShards(LayerMoments(widths), order, **options), layers, order), order


def row_shards(layers):
    order = order_of()
    return filled(
        RowShards(PooledFeatures([layer.shape[1] for layer in layers]), order), layers, order
    ), order


def anew(metric, layers, order, shards):
    """The metric on the samples of some shards, from their features."""
    groups = torch.arange(len(order.sizes)).repeat_interleave(torch.tensor(order.sizes))
    samples = order.indices[torch.isin(groups, torch.tensor(shards))]
    rows = PooledFeatures([layer.shape[1] for layer in layers])
    rows.update([layer[samples] for layer in layers])
    return metric.matrix(rows)


def test_moments_of_everything_and_of_unions():
    layers = features()
    shards, order = moment_shards(layers)
    whole = LayerMoments(WIDTHS)
    whole.update(layers)
    assert shards.moments.count == SAMPLES
    for i in range(4):
        torch.testing.assert_close(shards.moments.strip(i), whole.strip(i), rtol=1e-12, atol=1e-10)
    torch.testing.assert_close(shards.moments.row_norm_products(), whole.row_norm_products())
    subsample = shards.subsample([1, 4])
    assert subsample.count == 40
    samples = torch.cat([order.indices[20:40], order.indices[80:100]])
    for i, layer in enumerate(layers):
        centered = layer[samples].double() - layer[samples].double().mean(0)
        torch.testing.assert_close(subsample.cross(i, i), centered.T @ centered, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("make", [moment_shards, row_shards])
def test_resampled_matrices_are_those_of_the_samples(name, make):
    metric = get_metric(name)
    if metric.needs == "rows" and make is moment_shards:
        pytest.skip("needs the features themselves")
    layers = features()
    shards, order = make(layers)
    resampled = resample(shards, [metric], samples=SAMPLES, seed=5)[name]
    halves = halves_of(10, len(resampled.halves), 5)
    assert resampled.left_out.shape == (10, 4, 4)
    # The bandwidth of RBF kernels is that of all samples, so these are compared in test_kernel.
    if name.startswith("rbf"):
        torch.testing.assert_close(resampled.whole, metric.matrix(shards.rows), rtol=0, atol=1e-12)
        return
    for shard in (0, 7):
        expected = anew(metric, layers, order, [other for other in range(10) if other != shard])
        torch.testing.assert_close(resampled.left_out[shard], expected, rtol=0, atol=1e-9)
    for number in (0, 1, len(halves) - 1):
        expected = anew(metric, layers, order, list(halves[number]))
        torch.testing.assert_close(resampled.halves[number], expected, rtol=0, atol=1e-9)
    if resampled.whole is not None:
        torch.testing.assert_close(
            resampled.whole, anew(metric, layers, order, list(range(10))), rtol=0, atol=1e-9
        )


@pytest.mark.parametrize("name", ["cka", "debiased-cka", "r2cca-rank", "gcd"])
def test_layers_without_variance_in_some_unions(name):
    layers = features()
    order = order_of()
    layers[1][:] = 2.0  # never varies
    layers[3][:] = 2.0
    layers[3][order.indices[:20]] += features(3)[3][:20]  # varies in the first shard only
    shards = filled(MomentShards(LayerMoments(WIDTHS), order), layers, order)
    subsamples = torch.zeros(3, 10, dtype=torch.bool)
    subsamples[0] = True
    subsamples[1, 5:] = True
    subsamples[2, :5] = True
    matrices = get_metric(name).on_subsamples(shards, subsamples)
    assert matrices.diagonal(dim1=1, dim2=2).isnan().tolist() == [
        [False, True, False, False],
        [False, True, False, True],
        [False, True, False, False],
    ]
    for subsample, matrix in zip(subsamples, matrices):
        expected = anew(get_metric(name), layers, order, subsample.nonzero().flatten().tolist())
        torch.testing.assert_close(matrix, expected, rtol=0, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("name", ["cka", "debiased-cka", "r2cca"])
def test_layers_of_very_different_magnitude(name):
    layers = [layer * scale for layer, scale in zip(features(), (1e-6, 1.0, 1e6, 1e3))]
    shards, order = moment_shards(layers)
    halves = halves_of(10, 4, 0)
    matrices = get_metric(name).on_subsamples(shards, subsets_of(10, halves))
    expected = anew(get_metric(name), layers, order, list(halves[2]))
    torch.testing.assert_close(matrices[13], expected, rtol=0, atol=1e-9)


def test_ranks_that_some_samples_do_not_reach():
    # 20 samples a shard: shards of a layer of 30 features span less than everything does.
    generator = torch.Generator().manual_seed(0)
    layers = [torch.randn(SAMPLES, width, generator=generator) for width in (30, 6)]
    order = order_of()
    shards = filled(MomentShards(LayerMoments([30, 6]), order), layers, order)
    subsamples = torch.eye(10, dtype=torch.bool)[:3]
    for name in ("r2cca", "r2cca-rank", "gcd"):
        matrices = get_metric(name).on_subsamples(shards, subsamples)
        for shard in range(3):
            expected = anew(get_metric(name), layers, order, [shard])
            torch.testing.assert_close(matrices[shard], expected, rtol=0, atol=1e-9)


def test_parts_that_do_not_fit_go_to_files(monkeypatch):
    layers = features()
    in_memory, _ = moment_shards(layers)
    on_disk, _ = moment_shards(layers, memory_budget=10_000)
    kinds = {type(shard).__name__ for shard in on_disk._shards}
    assert kinds == {"MomentSums", "PosixPath"} or kinds == {"MomentSums", "WindowsPath"}
    metric = get_metric("cka")
    one, other = (
        resample(shards, [metric], samples=SAMPLES, seed=0)["cka"] for shards in (in_memory, on_disk)
    )
    assert torch.equal(one.halves, other.halves)


def test_the_dual_form_agrees_with_moments():
    generator = torch.Generator().manual_seed(0)
    layers = [torch.randn(SAMPLES, width, generator=generator) + 2 for width in (150, 90)]
    shards, _ = row_shards(layers)
    assert not shards.prefer_moments
    subsamples = subsets_of(10, halves_of(10, 6, 0))
    metric = get_metric("cka")
    direct = metric.on_row_subsamples(shards, subsamples)
    from_moments = metric.on_subsamples(MomentShards.of_rows(shards), subsamples)
    torch.testing.assert_close(direct, from_moments, rtol=0, atol=1e-9)


# -- which halves --------------------------------------------------------------------------------------------


def test_halves_come_with_their_complements():
    halves = halves_of(10, 100, seed=3)
    assert len(set(halves)) == len(halves) == 100
    for first, second in zip(halves[::2], halves[1::2]):
        assert len(first) == len(second) == 5
        assert sorted(first + second) == list(range(10))
    assert halves_of(10, 100, seed=3) == halves
    assert halves_of(10, 100, seed=4) != halves


def test_all_halves_when_there_are_no_more():
    assert sorted(halves_of(4, 100, seed=0)) == sorted(combinations(range(4), 2))
    assert halves_of(2, 100, seed=0) == [(0,), (1,)]
    with pytest.raises(PursuhintError, match="even number of shards, got 5"):
        halves_of(5, 2, seed=0)


def test_every_part_is_in_as_many_halves():
    counts = torch.zeros(10)
    for half in halves_of(10, 100, seed=0):
        counts[list(half)] += 1
    assert (counts == 50).all()


def test_how_many_halves():
    shards, _ = moment_shards(features())
    assert halves_for(get_metric("cka"), shards, 100) == MOST_HALVES
    assert halves_for(get_metric("r2cca"), shards, 100) == FEWEST_HALVES
    assert halves_for(get_metric("r2cca"), shards, 5_000) == 20
    assert halves_for(get_metric("r2cca"), shards, 100_000) == 40
    assert halves_for(get_metric("svcca"), shards, 100_000) == FEWEST_HALVES


def test_subsets():
    subsets = subsets_of(4, [(0, 3)])
    assert subsets.int().tolist() == [
        [1, 1, 1, 1],
        [0, 1, 1, 1],
        [1, 0, 1, 1],
        [1, 1, 0, 1],
        [1, 1, 1, 0],
        [1, 0, 0, 1],
    ]


# -- mistakes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [MomentShards, RowShards])
def test_batches_that_were_not_expected(kind):
    order = SampleOrder.of(torch.arange(8), shards=2, seed=0, batch_size=8)
    statistics = LayerMoments([2]) if kind is MomentShards else PooledFeatures([2])
    accumulator = kind(statistics, order)
    with pytest.raises(PursuhintError, match="expected 8 samples in batch 1, got 5"):
        accumulator.update([torch.zeros(5, 2)])
    accumulator.update([torch.zeros(8, 2)])
    with pytest.raises(PursuhintError, match="more batches than the 1 that were expected"):
        accumulator.update([torch.zeros(8, 2)])


@pytest.mark.parametrize("kind", [MomentShards, RowShards])
def test_nan_names_the_batch_among_all(kind):
    order = SampleOrder.of(torch.arange(30), shards=3, seed=0, batch_size=4)
    statistics = (LayerMoments if kind is MomentShards else PooledFeatures)([2], names=["layer1.0"])
    accumulator = kind(statistics, order)
    for step in order.steps()[:4]:
        accumulator.update([torch.randn(step.samples, 2)])
    with pytest.raises(PursuhintError, match=r"layer1\.0 hold NaN or infinity in batch 5"):
        accumulator.update([torch.full((4, 2), torch.nan)])
