"""Metrics against the values that the measures of the ReSi benchmark give for the same layers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor

from pursuhint.errors import PursuhintError
from pursuhint.similarity import (
    angular_procrustes_distance,
    get_metric,
    gulp_distance,
    gulp_distances,
    linear_cka_matrix,
    linear_r2_matrix,
    mutual_knn,
    mutual_knn_matrix,
    ridge_cca,
    ridge_cca_matrix,
    ridge_cca_sweep,
    yanai_gcd_matrix,
)
from tests.goldens.test_similarity import layers_of, load
from tests.helpers.statistics_layouts import statistics_of

VALUES = json.loads((Path(__file__).parent / "resi_values.json").read_text(encoding="utf-8"))["values"]
FEATURES = Path(__file__).parents[1] / "goldens" / "data" / "similarity-basic.npz"


@pytest.fixture(scope="module")
def layers():
    return layers_of(load(FEATURES))


def expected(name: str) -> Tensor:
    return torch.tensor(VALUES[name], dtype=torch.float64)


def close(actual: Tensor, values: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(actual, values, rtol=0, atol=tolerance)


@pytest.mark.parametrize("ridge", [0, 0.01, 1])
def test_gulp(layers, ridge):
    values = expected(f"gulp, lmbda {ridge}")
    for layout in ("moments", "rows"):
        close(gulp_distances(statistics_of(layout, layers), ridge=ridge).square(), values)
    close(gulp_distance(layers[0], layers[3], ridge=ridge).square(), values[0, 3])


def test_linear_regression(layers):
    close(linear_r2_matrix(statistics_of("moments", layers)), expected("linear_reg"))


def test_angular_shape_metric(layers):
    values = expected("orthogonal_angular_shape_metric_centered")
    found = 1 - get_metric("angular-procrustes").matrix(statistics_of("moments", layers))
    close(found, values * 2 / torch.pi, 1e-7)  # rounding gives ReSi 1e-8 where a layer meets itself
    close(angular_procrustes_distance(layers[1], layers[2]), values[1, 2])


def test_neighbours(layers):
    values = expected("top_k_neighbors, centred, shared")
    rows = statistics_of("rows", layers)
    close(mutual_knn_matrix(rows, chance=True), values)
    chance = 10 / (len(layers[0]) - 1)
    close(mutual_knn_matrix(rows), (values - chance) / (1 - chance))
    close(mutual_knn(layers[0], layers[2], chance=True), values[0, 2])


# -- what the metrics mean -----------------------------------------------------------------------------------


def test_ridge_cca_leads_from_cca_to_cka(layers):
    statistics = statistics_of("moments", layers)
    none, default, much = ridge_cca_sweep(statistics, [0, 0.01, 1e6])
    close(none, yanai_gcd_matrix(statistics))
    close(default, ridge_cca_matrix(statistics))
    close(much, linear_cka_matrix(statistics), 1e-5)
    assert torch.equal(ridge_cca_matrix(statistics, ridge=0), none)


def test_distances_keep_the_triangle_inequality(layers):
    statistics = statistics_of("moments", [*layers, layers[0][:, :5]])
    angles = 1 - get_metric("angular-procrustes").matrix(statistics)
    for distances in (gulp_distances(statistics), angles):
        detours = distances[:, :, None] + distances[None, :, :]
        assert (detours.min(1).values >= distances - 1e-7).all()


def test_neighbours_in_blocks(layers, monkeypatch):
    rows = statistics_of("rows", [*layers, layers[0][:, :1]])  # one feature: every neighbour is tied
    whole = mutual_knn_matrix(rows)
    monkeypatch.setattr("pursuhint.similarity.neighbors.MEMORY_BUDGET", 8 * len(rows) * rows.count * 7)
    close(mutual_knn_matrix(rows), whole, 1e-12)


def test_unrelated_layers_share_no_neighbours_beyond_chance():
    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(400, 20, generator=generator) for _ in range(2))
    assert abs(float(mutual_knn(x, y))) < 0.01
    assert float(mutual_knn(x, y, chance=True)) == pytest.approx(10 / 399, abs=0.01)


def test_numbers_out_of_range(layers):
    for wrong in (-0.1, float("nan")):
        with pytest.raises(PursuhintError, match="ridge must be a number of at least 0"):
            ridge_cca(*layers[:2], ridge=wrong)
    with pytest.raises(PursuhintError, match="neighbors must be at least 1"):
        mutual_knn(*layers[:2], neighbors=0)
    with pytest.raises(PursuhintError, match="needs the features themselves"):
        mutual_knn_matrix(statistics_of("moments", layers))
