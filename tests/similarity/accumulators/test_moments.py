"""LayerMoments: any way of cutting up the samples gives the same sums."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import distributed as dist

from pursuhint.errors import PursuhintError
from pursuhint.similarity import LayerMoments, PooledFeatures, get_metric
from tests.helpers.hard_features import hard_set
from tests.helpers.processes import spawn
from tests.helpers.statistics_layouts import LINEAR_METRICS


def moments_of(layers, size=1000, **options):
    moments = LayerMoments([layer.shape[1] for layer in layers], **options)
    for batch in zip(*(layer.split(size) for layer in layers)):
        moments.update(batch)
    return moments


def assert_same(actual, expected):
    assert actual.count == expected.count
    assert actual.eps == expected.eps
    for i in range(len(expected)):
        torch.testing.assert_close(actual.mean(i), expected.mean(i), rtol=1e-12, atol=1e-12)
        scale = float(expected.cross(i, i).abs().max())
        torch.testing.assert_close(actual.cross(i, i), expected.cross(i, i), rtol=0, atol=1e-12 * scale)
    for name in LINEAR_METRICS:
        torch.testing.assert_close(
            get_metric(name).matrix(actual), get_metric(name).matrix(expected), rtol=0, atol=1e-10
        )


@pytest.fixture(params=["ordinary", "mean-100-std"])
def layers(request):
    return hard_set(request.param)


def test_equals_numpy(layers):
    moments = moments_of(layers, size=37)
    x, y = (layer.numpy() for layer in layers[:2])
    np.testing.assert_allclose(moments.mean(1), y.mean(0), rtol=1e-13)
    expected = (x - x.mean(0)).T @ (y - y.mean(0))
    np.testing.assert_allclose(moments.cross(0, 1), expected, rtol=0, atol=1e-11 * np.abs(expected).max())
    torch.testing.assert_close(moments.strip(0)[:, moments.blocks[1]], moments.cross(0, 1))
    torch.testing.assert_close(moments.cross(1, 0), moments.cross(0, 1).T)


@pytest.mark.parametrize("size", [1, 3, 64])
def test_batch_size_does_not_matter(layers, size):
    assert_same(moments_of(layers, size), moments_of(layers))


def test_order_does_not_matter_even_when_sorted(layers):
    order = layers[0][:, 0].argsort()
    assert_same(moments_of([layer[order] for layer in layers], 5), moments_of(layers))


def test_empty_batches_change_nothing(layers):
    moments = moments_of(layers)
    moments.update([layer[:0] for layer in layers])
    assert_same(moments, moments_of(layers))


@pytest.mark.parametrize("cuts", [(1,), (100,), (30, 31, 200)])
def test_merging_parts_equals_the_whole(layers, cuts):
    parts = [
        moments_of([layer[start:end] for layer in layers], 16)
        for start, end in zip((0, *cuts), (*cuts, len(layers[0])))
    ]
    merged = LayerMoments(parts[0].widths)
    for part in parts:
        merged.merge(part)
    assert_same(merged, moments_of(layers))


def test_merging_leaves_the_other_as_it_was_and_empty_ones_change_nothing(layers):
    moments, empty = moments_of(layers), LayerMoments([layer.shape[1] for layer in layers])
    before = moments.cross(0, 1).clone()
    total = moments_of([2 * layer + 1 for layer in layers])
    total.merge(moments)
    torch.testing.assert_close(moments.cross(0, 1), before, rtol=0, atol=0)
    moments.merge(empty)
    assert_same(moments, moments_of(layers))
    empty.merge(moments)
    moments.update([layer[:10] for layer in layers])  # the copy does not follow
    assert_same(empty, moments_of(layers))


def test_merging_other_widths_is_refused():
    with pytest.raises(PursuhintError, match=r"cannot merge moments of widths \(3,\) into widths \(2,\)"):
        LayerMoments([2]).merge(LayerMoments([3]))


def test_remembers_the_coarsest_type():
    moments = LayerMoments([1, 1])
    moments.update([torch.ones(2, 1), torch.ones(2, 1, dtype=torch.float64)])
    moments.update([torch.ones(2, 1, dtype=torch.float64), torch.ones(2, 1, dtype=torch.float64)])
    assert moments.eps == [torch.finfo(torch.float32).eps, torch.finfo(torch.float64).eps]


def test_shared_work_is_done_once_until_samples_are_added(layers):
    calls = []

    def compute(moments):
        calls.append(moments.count)
        return moments.count

    moments = moments_of(layers)
    count = moments.count
    assert [moments.once(compute), moments.once(compute)] == [count, count]
    moments.update([layer[:10] for layer in layers])
    assert moments.once(compute) == count + 10
    moments.merge(moments_of(layers))
    assert moments.once(compute) == 2 * count + 10
    assert calls == [count, count + 10, 2 * count + 10]


def test_finds_layers_without_variance():
    generator = torch.Generator().manual_seed(0)
    varied = torch.randn(50, 3, generator=generator)
    partly = torch.cat([torch.full((50, 2), 7.3), varied[:, :1]], dim=1)
    moments = moments_of([varied, torch.full((50, 4), 0.1), torch.zeros(50, 1), partly], size=7)
    assert moments.constant_layers() == (1, 2)


def test_bad_batches_are_refused_and_leave_the_moments_as_they_were():
    moments = LayerMoments([2, 3], names=["layer1.0", "layer1.1"])
    good = [torch.randn(4, 2), torch.randn(4, 3)]
    moments.update(good)
    bad = torch.ones(4, 3)
    bad[2, 1] = torch.nan
    cases = [
        ([good[0]], "expected the features of 2 layers, got 1"),
        ([good[0], good[0]], r"layer1.1 must be of shape \(batch, 3\), got \(4, 2\)"),
        ([good[0], good[1][:, :, None]], r"layer1.1 must be of shape \(batch, 3\), got \(4, 3, 1\)"),
        ([good[0], good[1][:3]], "layer1.1 has features of 3 samples, layer1.0 of 4"),
        ([good[0], good[1].int()], "layer1.1 must be floating-point, got torch.int32"),
        ([good[0], bad], "the features of layer1.1 hold NaN or infinity in batch 2"),
    ]
    for features, message in cases:
        with pytest.raises(PursuhintError, match=message):
            moments.update(features)
    assert moments.count == 4
    torch.testing.assert_close(moments.mean(1), good[1].double().mean(0))


@pytest.mark.parametrize("widths", [[], [0], [3, -1]])
def test_widths_must_be_positive(widths):
    with pytest.raises(PursuhintError, match="widths must be one or more positive numbers"):
        LayerMoments(widths)


def test_one_name_a_layer():
    with pytest.raises(PursuhintError, match="1 names for 2 layers"):
        LayerMoments([1, 2], names=["a"])


def test_nothing_to_read_before_the_first_batch():
    with pytest.raises(PursuhintError, match="at least 1 samples, got 0"):
        LayerMoments([2]).mean(0)


def test_all_reduce_without_processes_does_nothing(layers):
    moments = moments_of(layers)
    moments.all_reduce()
    assert_same(moments, moments_of(layers))


def _reduce_in_process(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=3)
    layers = hard_set("mean-100-std")
    # The first process has no sample; the others have different ones, and so different shifts.
    shares = [slice(0, 0), slice(0, 150), slice(150, None)]
    moments = moments_of([layer[shares[rank]] for layer in layers], 32)
    moments.all_reduce()
    assert_same(moments, moments_of(layers))
    first = int(shares[rank].start or 0)
    rows = PooledFeatures(moments.widths)
    rows.update(
        share := [layer[shares[rank]] for layer in layers], samples=first + torch.arange(len(share[0]))
    )
    rows.all_reduce()
    assert torch.equal(rows.features(1), layers[1])
    assert torch.equal(rows.numbers, torch.arange(len(layers[0])))
    assert_same(rows, moments_of(layers))
    for untouched in (LayerMoments([2]), PooledFeatures([2])):
        untouched.all_reduce()
        assert untouched.count == 0
    dist.destroy_process_group()


def test_processes_add_up_to_one(tmp_path):
    spawn(_reduce_in_process, str(tmp_path), processes=3)
