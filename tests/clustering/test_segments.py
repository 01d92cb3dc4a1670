"""The best contiguous partition."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from pursuhint.clustering.inertia import inertia
from pursuhint.clustering.kmeans import kmeans
from pursuhint.clustering.segments import segments
from tests.helpers.layer_groups import contiguous_labelings, in_groups, indefinite, positive


@pytest.mark.parametrize("make", [positive, indefinite])
@pytest.mark.parametrize("layers", [3, 6, 9])
@pytest.mark.parametrize("seed", range(4))
def test_no_contiguous_partition_is_better(make, layers, seed):
    similarity = make(layers, seed)
    for k in range(2, layers + 1):
        clustering = segments(similarity, k)
        best = min(inertia(similarity, labels) for labels in contiguous_labelings(layers, k))
        assert clustering.contiguous
        assert clustering.k == k
        assert clustering.inertia == pytest.approx(best, abs=1e-10)
        assert clustering.inertia == pytest.approx(inertia(similarity, clustering.labels))


def test_finds_obvious_groups():
    assert segments(in_groups(3, 1, 4), 3).labels == (0, 0, 0, 1, 2, 2, 2, 2)
    assert segments(in_groups(3, 1, 4), 3, normalize=True).algorithm == "segments"


def test_more_segments_never_fit_worse():
    similarity = positive(30, 5)
    values = [segments(similarity, k).inertia for k in range(2, 31)]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(values))
    assert values[-1] == pytest.approx(0, abs=1e-12)


def test_contiguous_kmeans_is_never_better():
    for seed in range(30):
        similarity = positive(25, seed)
        found = kmeans(similarity, 4)
        if found.contiguous:
            assert found.inertia >= segments(similarity, 4).inertia - 1e-12


def test_cuts_come_last_among_equals():
    similarity = torch.tensor([[1, 0.5, 0.1], [0.5, 1, 0.5], [0.1, 0.5, 1]])
    assert segments(similarity, 2).labels == (0, 0, 1)
    assert segments(torch.ones(5, 5), 3).labels == (0, 0, 0, 1, 2)
