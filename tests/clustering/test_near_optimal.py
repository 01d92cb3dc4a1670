"""The contiguous partitions near the best one, against all partitions written out."""

from __future__ import annotations

import pytest
import torch

from pursuhint.clustering import near_optimal_segments
from pursuhint.clustering.inertia import inertia
from pursuhint.clustering.segments import segments
from pursuhint.errors import PursuhintError
from tests.helpers.layer_groups import contiguous_labelings, in_groups, indefinite, positive


@pytest.mark.parametrize("within", [0.0, 0.01, 0.2, 3.0])
@pytest.mark.parametrize("layers", [3, 6, 9])
@pytest.mark.parametrize("make", [positive, indefinite])
def test_equals_the_enumeration_of_all_partitions(make, layers, within):
    listed_more_than_one = False
    for seed in range(4):
        similarity = make(layers, seed)
        for k in range(2, layers + 1):
            every = {tuple(labels): inertia(similarity, labels) for labels in contiguous_labelings(layers, k)}
            best = min(every.values())
            limit = best * (1 + within) if best > 1e-12 else best
            expected = {labels for labels, value in every.items() if value <= limit + 1e-11}
            found = near_optimal_segments(similarity, k, within=within)
            assert found.complete
            assert set(found.partitions) == expected
            assert len(found) == len(expected)
            assert list(found.inertias) == pytest.approx(
                [every[labels] for labels in found.partitions], abs=1e-10
            )
            assert list(found.inertias) == sorted(found.inertias)
            listed_more_than_one |= len(found) > 1
    if layers > 3 and within >= 0.2:
        assert listed_more_than_one


@pytest.mark.parametrize("seed", range(5))
def test_the_first_is_the_best_partition(seed):
    similarity = positive(14, seed)
    assert near_optimal_segments(similarity, 4).partitions[0] == segments(similarity, 4).labels


def test_all_partitions_tie_where_all_layers_differ_equally():
    found = near_optimal_segments(torch.eye(6), 3, within=0.0)
    assert set(found.partitions) == set(map(tuple, contiguous_labelings(6, 3)))
    assert found.partitions[0] == segments(torch.eye(6), 3).labels


def test_the_best_are_kept_when_there_are_too_many():
    similarity = positive(10, 2)
    every = near_optimal_segments(similarity, 4, within=1e6)
    few = near_optimal_segments(similarity, 4, within=1e6, most=5)
    assert every.complete
    assert len(every) == 84  # 9 places for 3 cuts
    assert not few.complete
    assert few.partitions == every.partitions[:5]
    assert near_optimal_segments(similarity, 4, within=1e6, most=84).complete


def test_hundreds_of_millions_of_ties_take_no_time():
    for similarity in (torch.ones(54, 54) / 3, torch.eye(54) / 3):
        found = near_optimal_segments(similarity, 8, within=0.0, most=20)
        assert len(found) == 20
        assert not found.complete


def test_obvious_groups_have_no_rival():
    found = near_optimal_segments(in_groups(4, 3, 5), 3)
    assert len(found) == 1
    assert found.inertias[0] == pytest.approx(0.1 * (3 + 2 + 4))  # (1 - 0.9)(n - 1) for each group


def test_normalizing_gives_layers_unit_length():
    scale = torch.diag(torch.linspace(0.5, 4, 8, dtype=torch.float64))
    similarity = positive(8, 1)
    unit = near_optimal_segments(similarity, 3, normalize=True, within=0.1)
    scaled = near_optimal_segments(scale @ similarity @ scale, 3, normalize=True, within=0.1)
    assert unit.partitions == scaled.partitions
    raw = near_optimal_segments(scale @ similarity @ scale, 3, within=0.1)
    assert raw.partitions != scaled.partitions


@pytest.mark.parametrize("options", [{"within": -0.1}, {"most": 0}])
def test_refuses(options):
    with pytest.raises(PursuhintError, match="within must be at least 0"):
        near_optimal_segments(torch.eye(4), 2, **options)
