"""Clusterings: numbered by depth, so that equal groups are equal results."""

from __future__ import annotations

import pytest

from pursuhint.clustering import Clustering, get_algorithm
from pursuhint.clustering.result import number_by_depth
from pursuhint.errors import PursuhintError


def test_relabelled_clusters_are_the_same_clustering():
    assert number_by_depth([2, 2, 0, 1, 0]) == number_by_depth([0, 0, 1, 2, 1]) == (0, 0, 1, 2, 1)


def test_members_and_contiguity():
    clustering = Clustering((0, 0, 1, 0), 1.0, 3, "kmeans")
    assert clustering.k == 2
    assert clustering.members(0) == (0, 1, 3)
    assert clustering.members(1) == (2,)
    assert not clustering.contiguous
    assert Clustering((0, 0, 1, 2), 1.0, 3, "kmeans").contiguous
    assert not Clustering((0, 1, 2, 1), 1.0, 3, "kmeans").contiguous
    with pytest.raises(PursuhintError, match="no cluster 2 among 2"):
        clustering.members(2)


@pytest.mark.parametrize("labels", [(), (1, 0), (0, 2), (-1, 0)])
def test_other_numberings_are_refused(labels):
    with pytest.raises(PursuhintError, match="numbered from 0 by the depth of their first layer"):
        Clustering(labels, 0.0, 1, "kmeans")


def test_unknown_algorithm():
    with pytest.raises(PursuhintError, match="no clustering algorithm named 'kmean'; did you mean 'kmeans'"):
        get_algorithm("kmean")
