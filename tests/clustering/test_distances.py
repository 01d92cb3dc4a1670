"""From similarities to distances and back."""

from __future__ import annotations

import pytest
import torch
from scipy.spatial.distance import cdist

from pursuhint.clustering import ALGORITHMS, get_algorithm
from pursuhint.clustering.distances import distances_of, similarity_of
from pursuhint.errors import PursuhintError
from tests.helpers.layer_groups import indefinite, positive, vectors


def test_distances_are_those_of_the_vectors():
    points = 3 * vectors(9, 0)
    expected = torch.from_numpy(cdist(points, points))
    torch.testing.assert_close(distances_of(torch.from_numpy(points @ points.T)), expected)


def test_unit_diagonal():
    similarity = positive(6, 1)
    expected = (2 * (1 - similarity)).clamp_min(0).sqrt()
    actual = distances_of(similarity)
    assert not actual.diagonal().any()
    torch.testing.assert_close(actual, expected.fill_diagonal_(0), atol=1e-7, rtol=0)


def test_negative_squares_become_zero():
    assert distances_of(indefinite(5, 0))[0, 1] == 0


def test_there_and_back():
    points = vectors(9, 2)
    distances = torch.from_numpy(cdist(points, points))
    torch.testing.assert_close(distances_of(similarity_of(distances)), distances, atol=1e-7, rtol=0)
    similarity = similarity_of(distances)
    assert float(torch.linalg.eigvalsh(similarity)[0]) > -1e-12
    torch.testing.assert_close(similarity.sum(0), torch.zeros(9, dtype=torch.float64))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_starts_from_distances_as_well(algorithm):
    similarity = positive(12, 3)
    cluster = get_algorithm(algorithm)
    from_distances = cluster(similarity_of(distances_of(similarity)), 3)
    from_similarity = cluster(similarity, 3)
    assert from_distances.labels == from_similarity.labels
    assert from_distances.inertia == pytest.approx(from_similarity.inertia)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_asymmetric_similarities_are_averaged(algorithm):
    generator = torch.Generator().manual_seed(0)
    similarity = positive(12, 3) + 0.05 * torch.randn(12, 12, generator=generator).double()
    cluster = get_algorithm(algorithm)
    assert cluster(similarity, 3) == cluster(similarity.T, 3) == cluster((similarity + similarity.T) / 2, 3)


@pytest.mark.parametrize(
    ("distances", "message"),
    [
        (torch.ones(2, 3), r"distances must be of shape \(layers, layers\), got \(2, 3\)"),
        (torch.tensor([[0.0, -1], [-1, 0]]), "distances must not be negative, got -1"),
        (torch.eye(3), "distances must be 0 on the diagonal, got 1 for layer 1; similarities are"),
        (torch.full((2, 2), torch.inf), "distances holds NaN or infinity"),
    ],
)
def test_what_is_no_distance(distances, message):
    with pytest.raises(PursuhintError, match=message):
        similarity_of(distances)
