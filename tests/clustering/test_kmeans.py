"""k-means on a precomputed similarity."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from pursuhint.clustering.inertia import inertia
from pursuhint.clustering.kmeans import kmeans, seeds
from pursuhint.clustering.segments import segments
from pursuhint.errors import PursuhintError
from tests.helpers.layer_groups import in_groups, indefinite, labelings, positive, vectors


@pytest.mark.parametrize(
    ("layers", "k", "expected"),
    [
        (54, 3, (0, 26, 53)),  # positions 1, 27 and 54: the lower middle of an even number
        (15, 3, (0, 7, 14)),
        (10, 2, (0, 9)),
        (9, 5, (0, 2, 4, 6, 8)),
        (4, 4, (0, 1, 2, 3)),
    ],
)
def test_seeds_are_the_papers(layers, k, expected):
    assert seeds(layers, k) == expected


@pytest.mark.parametrize("normalize", [False, True])
@pytest.mark.parametrize("sizes", [(3, 2), (4, 3, 5), (3, 3, 4, 3)])
def test_finds_obvious_groups(sizes, normalize):
    clustering = kmeans(in_groups(*sizes), len(sizes), normalize=normalize)
    assert clustering.labels == tuple(np.repeat(range(len(sizes)), sizes))
    assert clustering.contiguous
    assert clustering.algorithm == "kmeans"


def test_equals_lloyds_algorithm_on_the_vectors():
    for seed in range(20):
        points = vectors(20, seed)
        centroids = points[list(seeds(20, 3))]
        for _ in range(50):
            labels = ((points[:, None] - centroids) ** 2).sum(2).argmin(1)
            centroids = np.stack([points[labels == label].mean(0) for label in range(3)])
        clustering = kmeans(torch.from_numpy(points @ points.T), 3)
        groups = {frozenset(np.flatnonzero(labels == label)) for label in range(3)}
        assert {frozenset(clustering.members(cluster)) for cluster in range(3)} == groups


@pytest.mark.parametrize("k", [2, 3, 5])
@pytest.mark.parametrize("seed", range(10))
def test_inertia_never_rises(seed, k):
    similarity = positive(17, seed)
    found = [kmeans(similarity, k, max_iterations=count) for count in range(1, 12)]
    values = [clustering.inertia for clustering in found]
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(values))
    assert found[-1].inertia == pytest.approx(inertia(similarity, found[-1].labels))
    assert found[-1] == kmeans(similarity, k), "it has converged by then"


@pytest.mark.parametrize("make", [positive, indefinite])
@pytest.mark.parametrize("seed", range(5))
def test_no_cluster_is_empty_and_none_is_better_than_the_best(make, seed):
    similarity = make(7, seed)
    for k in (2, 3, 4):
        clustering = kmeans(similarity, k)
        best = min(inertia(similarity, labels) for labels in labelings(7, k))
        assert set(clustering.labels) == set(range(k))
        assert clustering.inertia >= best - 1e-12


def test_ends_on_similarities_that_are_not_positive():
    for seed in range(200):
        clustering = kmeans(indefinite(12, seed), 4)
        assert clustering.iterations < 300
        assert clustering.k == 4


def test_equal_layers_still_make_k_clusters():
    assert kmeans(torch.ones(5, 5), 3).labels == (0, 1, 2, 2, 2)
    duplicated = in_groups(2, 2, within=1.0)
    for k in (2, 3, 4):
        assert kmeans(duplicated, k).k == k


def test_ties_go_to_the_shallower_cluster():
    # The middle layer is exactly as far from the first as from the last.
    similarity = torch.tensor([[1, 0.5, 0.1], [0.5, 1, 0.5], [0.1, 0.5, 1]])
    assert kmeans(similarity, 2).labels == (0, 0, 1)
    noise = 1e-16 * torch.tensor([[0, -3, 0], [-3, 0, 3], [0, 3, 0]])
    assert kmeans(similarity.double() + noise, 2).labels == (0, 0, 1)


def test_every_layer_its_own_cluster():
    clustering = kmeans(positive(6, 0), 6)
    assert clustering.labels == tuple(range(6))
    assert clustering.inertia == pytest.approx(0, abs=1e-12)


def test_unit_length_changes_nothing_on_a_unit_diagonal_and_something_else_where():
    similarity = positive(12, 3)
    assert kmeans(similarity, 3).labels == kmeans(similarity, 3, normalize=True).labels
    lengths = torch.linspace(1, 5, 12, dtype=torch.float64)
    scaled = similarity * lengths[:, None] * lengths
    assert kmeans(scaled, 3, normalize=True).labels == kmeans(similarity, 3).labels
    assert kmeans(scaled, 3).inertia != pytest.approx(kmeans(scaled, 3, normalize=True).inertia)


@pytest.mark.parametrize("algorithm", [kmeans, segments])
@pytest.mark.parametrize(
    ("k", "message"),
    [
        (12, "cannot choose 12 hint points from 9 layers; ask for at most 9"),
        (1, "k must be at least 2, got 1"),
        (0, "k must be at least 2, got 0"),
    ],
)
def test_k_out_of_range(algorithm, k, message):
    with pytest.raises(PursuhintError, match=message):
        algorithm(positive(9, 0), k)


@pytest.mark.parametrize("algorithm", [kmeans, segments])
def test_nan_is_refused(algorithm):
    similarity = positive(5, 0)
    similarity[1, :] = torch.nan
    with pytest.raises(PursuhintError, match="NaN or infinity"):
        algorithm(similarity, 2)


def test_iterations_must_be_allowed():
    with pytest.raises(PursuhintError, match="max_iterations must be at least 1, got 0"):
        kmeans(positive(5, 0), 2, max_iterations=0)
