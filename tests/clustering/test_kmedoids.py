"""k-medoids on a precomputed similarity."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
import torch

from pursuhint.clustering.distances import distances_of
from pursuhint.clustering.inertia import inertia
from pursuhint.clustering.kmedoids import kmedoids
from tests.helpers.layer_groups import in_groups, indefinite, positive, vectors


def loss(distances, medoids):
    return float(distances[:, list(medoids)].min(dim=1).values.sum())


@pytest.mark.parametrize("sizes", [(3, 2), (4, 3, 5), (3, 3, 4, 3)])
def test_finds_obvious_groups(sizes):
    clustering = kmedoids(in_groups(*sizes), len(sizes))
    assert clustering.labels == tuple(np.repeat(range(len(sizes)), sizes))
    assert clustering.algorithm == "kmedoids"


def test_no_single_exchange_of_a_medoid_is_better():
    for seed in range(10):
        similarity = positive(14, seed)
        distances = distances_of(similarity)
        clustering = kmedoids(similarity, 3)
        groups = [list(clustering.members(cluster)) for cluster in range(3)]
        medoids = [group[int(distances[group][:, group].sum(0).argmin())] for group in groups]
        best = loss(distances, medoids)
        for out, other in ((i, j) for i in range(3) for j in range(14)):
            exchanged = [*medoids[:out], other, *medoids[out + 1 :]]
            assert best <= loss(distances, exchanged) + 1e-9
        everything = min(loss(distances, chosen) for chosen in combinations(range(14), 3))
        assert best <= 1.15 * everything


def test_outliers_weigh_less_than_in_kmeans():
    # Distances, not their squares: the medoid of 1, 2, 3 and 100 does not move towards 100.
    points = np.array([[1.0], [2.0], [3.0], [100.0], [500.0], [501.0]])
    assert kmedoids(torch.from_numpy(points @ points.T), 2).labels == (0, 0, 0, 0, 1, 1)


@pytest.mark.parametrize("make", [positive, indefinite])
def test_k_groups_with_their_inertia(make):
    similarity = make(9, 1)
    for k in range(2, 10):
        clustering = kmedoids(similarity, k)
        assert clustering.k == k
        assert clustering.inertia == pytest.approx(inertia(similarity, clustering.labels))
        assert clustering == kmedoids(similarity, k), "there is no chance in it"


def test_equal_layers_still_make_k_clusters():
    for k in (2, 3, 4, 5):
        assert kmedoids(torch.ones(5, 5), k).k == k


def test_unit_length():
    points = 3 * vectors(10, 2) * np.arange(1, 11)[:, None]
    scaled = torch.from_numpy(points @ points.T)
    unit = torch.from_numpy(vectors(10, 2) @ vectors(10, 2).T)
    assert kmedoids(scaled, 3, normalize=True).labels == kmedoids(unit, 3).labels
