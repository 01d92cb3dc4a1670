"""Silhouettes, and the number of clusters that they choose."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import silhouette_score

from pursuhint.clustering import get_algorithm
from pursuhint.clustering.cluster_count import ClusteringsOverK, choose_k
from pursuhint.clustering.distances import distances_of
from pursuhint.clustering.segments import segments
from pursuhint.clustering.silhouette import silhouette
from pursuhint.errors import PursuhintError
from tests.helpers.layer_groups import in_groups, positive


@pytest.mark.parametrize("k", [2, 3, 6])
@pytest.mark.parametrize("seed", range(4))
def test_equals_scikit_learn(seed, k):
    similarity = positive(12, seed)
    labels = segments(similarity, k).labels
    expected = silhouette_score(distances_of(similarity).numpy(), labels, metric="precomputed")
    assert silhouette(similarity, labels) == pytest.approx(expected, abs=1e-12)


def test_any_labels_and_lonely_layers():
    similarity = positive(7, 0)
    assert silhouette(similarity, [5, 5, 5, 2, 2, 9, 9]) == silhouette(similarity, [0, 0, 0, 1, 1, 2, 2])
    assert silhouette(similarity, range(7)) == 0, "a layer alone in its cluster has none"
    assert silhouette(torch.ones(4, 4), [0, 0, 1, 1]) == 0


def test_mistakes():
    with pytest.raises(PursuhintError, match="2 labels for 3 layers"):
        silhouette(torch.eye(3), [0, 1])
    with pytest.raises(PursuhintError, match="at least 2 clusters, got 1"):
        silhouette(torch.eye(3), [4, 4, 4])


@pytest.mark.parametrize("algorithm", ["kmeans", "segments", "kmedoids", "hierarchical"])
@pytest.mark.parametrize("sizes", [(4, 5), (4, 3, 5), (3, 3, 4, 3, 2)])
def test_obvious_groups_are_counted(sizes, algorithm):
    found = ClusteringsOverK(get_algorithm(algorithm), in_groups(*sizes))
    choice = choose_k(found.inertias, found.silhouettes)
    assert choice.k == len(sizes)


def test_curves():
    found = ClusteringsOverK(segments, positive(30, 0))
    inertias, silhouettes = found.inertias, found.silhouettes
    assert list(inertias) == list(silhouettes) == [2, 3, 4, 5, 6, 7, 8]
    found = ClusteringsOverK(segments, positive(5, 0))
    inertias, silhouettes = found.inertias, found.silhouettes
    assert list(inertias) == list(silhouettes) == [2, 3, 4]
    clustering = segments(positive(5, 0), 3)
    assert inertias[3] == clustering.inertia
    assert silhouettes[3] == silhouette(positive(5, 0), clustering.labels)
    found = ClusteringsOverK(segments, positive(2, 0))
    assert found.inertias == found.silhouettes == {}
    assert found.at(2).k == 2


def test_choice_says_why():
    choice = choose_k({2: 3.0, 3: 1.25, 4: 1.0}, {2: 0.5, 3: 0.6251, 4: 0.6})
    assert choice.k == 3
    assert choice.reason == (
        "k = 3: silhouette 0.625, the highest of k = 2 to 4 (next: 0.600 at k = 4); "
        "inertia 1.25, against 3 at k = 2 and 1 at k = 4"
    )
    assert choose_k({2: 1.0, 3: 0.5}, {2: 0.25, 3: 0.25}).k == 2, "the smaller of equals"
    assert choose_k({2: 1.0}, {2: 0.25}).reason == (
        "k = 2: silhouette 0.250, the highest of k = 2 alone; inertia 1"
    )
    assert choose_k({}, {}).k == 2
    with pytest.raises(PursuhintError, match=r"inertias for k = \[2\] but silhouettes for k = \[3\]"):
        choose_k({2: 1.0}, {3: 1.0})


def test_unit_length():
    similarity = positive(8, 0)
    lengths = torch.from_numpy(np.arange(1.0, 9.0))
    scaled = similarity * lengths[:, None] * lengths
    labels = [0, 0, 0, 1, 1, 1, 2, 2]
    assert silhouette(scaled, labels, normalize=True) == pytest.approx(silhouette(similarity, labels))
