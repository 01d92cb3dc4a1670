"""MultiPassMoments: several passes with little memory give what one pass with much gives."""

from __future__ import annotations

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.similarity import get_metric
from pursuhint.similarity.accumulators.multi_pass import MultiPassMoments, passes_within
from tests.helpers.hard_features import hard_set
from tests.helpers.statistics_layouts import LINEAR_METRICS, batches, statistics_of


@pytest.fixture
def layers():
    return hard_set("ordinary")


def blocks_of(layers, groups, metrics=LINEAR_METRICS, sizes=(64,)):
    functions = [function for name in metrics for function in get_metric(name).strips]
    blocks = MultiPassMoments([layer.shape[1] for layer in layers], functions, groups)
    for number, strips in enumerate(blocks.passes()):
        for batch in batches([layer[: 300 - number] for layer in layers] if sizes is None else layers, [64]):
            strips.update(batch)
    return blocks


@pytest.mark.parametrize("ends", [(4,), (1, 4), (2, 4), (1, 2, 3, 4)])
def test_any_division_into_passes_gives_the_same(layers, ends):
    blocks = blocks_of(layers, [range(start, end) for start, end in zip((0, *ends), ends)])
    moments = statistics_of("moments", layers)
    assert (blocks.count, blocks.eps) == (moments.count, moments.eps)
    for name in LINEAR_METRICS:
        matrix = get_metric(name).matrix
        torch.testing.assert_close(matrix(blocks), matrix(moments), rtol=0, atol=1e-11)
    for i in range(len(layers)):
        torch.testing.assert_close(blocks.mean(i), moments.mean(i))
        torch.testing.assert_close(blocks.scatter(i), moments.scatter(i))
        torch.testing.assert_close(blocks.mean_square(i), moments.mean_square(i))


def test_passes_must_be_complete_and_see_the_same_samples(layers):
    groups = [range(2), range(2, 4)]
    blocks = MultiPassMoments([layer.shape[1] for layer in layers], [], groups)
    with pytest.raises(PursuhintError, match="0 of 2 passes over the data are done"):
        get_metric("cka").matrix(blocks)
    with pytest.raises(PursuhintError, match="add samples to what passes"):
        blocks.update(layers)
    with pytest.raises(PursuhintError, match="pass 2 over the data saw 299 samples, the first 300"):
        blocks_of(layers, groups, sizes=None)


def test_metrics_must_be_named_beforehand(layers):
    blocks = blocks_of(layers, [range(2), range(2, 4)], metrics=["cka"])
    get_metric("debiased-cka").matrix(blocks)  # makes do with the same
    with pytest.raises(PursuhintError, match="collected for other metrics; name all metrics"):
        get_metric("r2cca").matrix(blocks)


def test_strips_cannot_be_used_for_more_than_they_hold(layers):
    blocks = MultiPassMoments([layer.shape[1] for layer in layers], [], [range(2), range(2, 4)])
    strips = next(blocks.passes())
    strips.update(layers)
    with pytest.raises(PursuhintError, match="the strip of layer 3 is not kept"):
        strips.strip(2)
    with pytest.raises(PursuhintError, match="products of layer 3 with layer 4 are not kept"):
        strips.cross(2, 3)
    with pytest.raises(PursuhintError, match="do not merge"):
        strips.merge(strips)
    with pytest.raises(PursuhintError, match="use one process"):
        strips.all_reduce()
    with pytest.raises(PursuhintError, match="strips are not kept after their pass"):
        blocks.strip(0)


def test_groups_fill_the_room():
    widths = [10, 20, 30, 40]
    own = 8 * (100 + 400 + 900 + 1600)
    strips = [8 * 10 * 100, 8 * 20 * 90, 8 * 30 * 70, 8 * 40 * 40]
    assert passes_within(widths, own + 8 * 100 * 100) == (range(4),)
    assert passes_within(widths, own + max(strips)) is not None
    assert passes_within(widths, own + 8 * 30 * 70 - 1) is None
    for room in range(own + max(strips), own + sum(strips), 1000):
        groups = passes_within(widths, room)
        assert groups is not None
        assert [i for group in groups for i in group] == [0, 1, 2, 3]
        for group in groups:
            rows, first = sum(widths[i] for i in group), sum(widths[: group.start])
            assert own + 8 * rows * (100 - first) <= room
