"""Hierarchical clustering and its tree."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.cluster.hierarchy import fcluster
from sklearn.cluster import AgglomerativeClustering

from pursuhint.clustering.distances import distances_of
from pursuhint.clustering.hierarchical import LINKAGES, hierarchical, linkage_tree
from pursuhint.clustering.inertia import inertia
from pursuhint.clustering.result import number_by_depth
from pursuhint.errors import PursuhintError
from tests.helpers.layer_groups import in_groups, indefinite, positive, slow_inertia, vectors


@pytest.mark.parametrize("linkage", LINKAGES)
@pytest.mark.parametrize("sizes", [(3, 2), (4, 3, 5), (3, 3, 4, 3)])
def test_finds_obvious_groups(sizes, linkage):
    clustering = hierarchical(in_groups(*sizes), len(sizes), linkage=linkage)
    assert clustering.labels == tuple(np.repeat(range(len(sizes)), sizes))
    assert clustering.algorithm == "hierarchical"


@pytest.mark.parametrize("linkage", LINKAGES)
def test_equals_scikit_learn(linkage):
    for seed in range(5):
        points = vectors(15, seed)
        similarity = torch.from_numpy(points @ points.T)
        for k in (2, 3, 5):
            if linkage == "ward":
                expected = AgglomerativeClustering(k, linkage="ward").fit_predict(points)
            else:
                model = AgglomerativeClustering(k, metric="precomputed", linkage=linkage)
                expected = model.fit_predict(distances_of(similarity).numpy())
            assert hierarchical(similarity, k, linkage=linkage).labels == number_by_depth(expected)


def test_ward_joins_what_raises_inertia_least():
    points = vectors(10, 3)
    tree = linkage_tree(torch.from_numpy(points @ points.T))
    inertias = [slow_inertia(points, fcluster(tree, k, "maxclust")) for k in range(10, 0, -1)]
    np.testing.assert_allclose(np.diff(inertias), tree[:, 2] ** 2 / 2, atol=1e-12)


def test_groups_of_one_tree_are_nested():
    similarity = positive(20, 7)
    for k in range(2, 20):
        coarse, fine = hierarchical(similarity, k), hierarchical(similarity, k + 1)
        assert fine.k == k + 1
        for cluster in range(k + 1):
            assert len({coarse.labels[layer] for layer in fine.members(cluster)}) == 1


@pytest.mark.parametrize("make", [positive, indefinite])
def test_k_groups_with_their_inertia(make):
    similarity = make(9, 1)
    for k in range(2, 10):
        clustering = hierarchical(similarity, k)
        assert clustering.k == k
        assert clustering.inertia == pytest.approx(inertia(similarity, clustering.labels))


def test_equal_layers_still_make_k_clusters():
    for k in (2, 3, 4, 5):
        assert hierarchical(torch.ones(5, 5), k).k == k


def test_mistakes():
    with pytest.raises(PursuhintError, match="no linkage named 'wards'; did you mean 'ward'"):
        hierarchical(positive(5, 0), 2, linkage="wards")
    with pytest.raises(PursuhintError, match="cannot choose 2 hint points from 1 layers"):
        linkage_tree(torch.ones(1, 1))
