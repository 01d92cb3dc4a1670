"""Inertia from similarities equals inertia from vectors with real centroids."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pursuhint.clustering.inertia import checked_similarity, inertia, squared_distances
from pursuhint.errors import PursuhintError
from tests.helpers.layer_groups import positive, slow_inertia, vectors


@pytest.mark.parametrize(
    "labels", [[0, 0, 0, 1, 1, 2, 2], [5, 3, 5, 5, 3, 3, 3], [0, 1, 2, 3, 4, 5, 6], [1] * 7]
)
def test_equals_inertia_of_the_vectors(labels):
    assert inertia(positive(7, 0), labels) == pytest.approx(slow_inertia(vectors(7, 0), labels), abs=1e-12)


def test_distances_equal_distances_of_the_vectors():
    points, labels = vectors(7, 1), np.array([0, 0, 1, 1, 2, 0, 2])
    actual = squared_distances(points @ points.T, labels, 3)
    centroids = np.stack([points[labels == label].mean(0) for label in range(3)])
    expected = ((points[:, None] - centroids) ** 2).sum(2)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-12)


def test_unit_length_divides_by_the_diagonal():
    points = 3 * vectors(6, 2) * np.arange(1, 7)[:, None]
    similarity = torch.from_numpy(points @ points.T)
    labels = [0, 0, 1, 1, 1, 2]
    expected = slow_inertia(points / np.linalg.norm(points, axis=1, keepdims=True), labels)
    assert inertia(similarity, labels, normalize=True) == pytest.approx(expected)
    assert inertia(similarity, labels) == pytest.approx(slow_inertia(points, labels))


def test_asymmetric_similarities_are_averaged():
    similarity = torch.tensor([[1, 0.2], [0.6, 1]])
    np.testing.assert_allclose(
        checked_similarity(similarity, normalize=False), [[1, 0.4], [0.4, 1]], atol=1e-7
    )


@pytest.mark.parametrize(
    ("similarity", "message"),
    [
        (torch.ones(3, 2), r"similarity must be of shape \(layers, layers\), got \(3, 2\)"),
        (torch.ones(0, 0), r"similarity must be of shape \(layers, layers\), got \(0, 0\)"),
        (
            torch.tensor([[1, torch.nan, 1], [torch.nan, torch.nan, torch.nan], [1, torch.nan, 1]]),
            "NaN or infinity, most in the row of layer 2 of 3",
        ),
    ],
)
def test_bad_similarities_are_explained(similarity, message):
    with pytest.raises(PursuhintError, match=message):
        inertia(similarity, [0, 0, 1])


def test_bad_labels_and_diagonals_are_explained():
    with pytest.raises(PursuhintError, match="2 labels for 3 layers"):
        inertia(torch.eye(3), [0, 1])
    with pytest.raises(PursuhintError, match="cannot normalise: layer 2 of 2 has similarity 0 with itself"):
        inertia(torch.tensor([[1.0, 0], [0, 0]]), [0, 1], normalize=True)
