"""How many ways of choosing lead to the same hint points."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from pursuhint.analysis.result import Analysis
from pursuhint.analysis.run_analysis import analyze
from pursuhint.analysis.storage import StoredAnalysis
from pursuhint.analysis.ways import ChoiceAgreement, NearOptimalChoices, Way, ways_of
from pursuhint.clustering import Clustering, get_algorithm, installed_algorithms
from pursuhint.clustering.inertia import inertia
from pursuhint.hints.options import SelectionOptions
from pursuhint.hints.plan import choose_positions
from pursuhint.hints.selection import StoredSimilarity
from tests.helpers.analysis_networks import noise_images, plain_network, points_of
from tests.helpers.layer_groups import contiguous_labelings, positive


@pytest.fixture(scope="module")
def analysis():
    return analyze(plain_network(), noise_images(), metrics=["cka", "r2cca"], samples=40, stability=False)


def by_enumeration(values, k: int, position: str) -> list[set[int]]:
    """Layers of every contiguous partition within 1 % of the best, from 0."""
    every = [(inertia(values, labels), tuple(labels)) for labels in contiguous_labelings(len(values), k)]
    best = min(every)[0]
    return [
        set(choose_positions(Clustering(labels, value, 1, "segments"), position, values))
        for value, labels in every
        if value <= 1.01 * best + 1e-12
    ]


@pytest.mark.parametrize("position", ["center", "last", "medoid"])
@pytest.mark.parametrize("k", [3, 5])
def test_equals_what_is_counted_by_hand(analysis, k, position):
    plan = analysis.select(k=k, metric="r2cca", algorithm="segments", position=position)
    agreement = analysis.choice_agreement(plan)
    # The analysis has its clusterings for k = 3; for another k those that are quick to import are made.
    names = installed_algorithms() if k == 3 else ("kmeans", "segments", "hierarchical")
    matrices = {
        "cka": analysis.similarities["cka"].values,
        "r2cca": analysis.similarities["r2cca"].values,
    }
    for point in plan.teacher_points:
        layer, votes, total = point.position - 1, 0, 0.0
        for values in matrices.values():
            for name in names:
                votes += layer in choose_positions(get_algorithm(name)(values, k), position, values)
            near = by_enumeration(values, k, position)
            total += sum(layer in chosen for chosen in near) / len(near)
        ways = 2 * len(names)
        assert len(agreement.ways) == ways
        assert agreement.votes(point.position) == votes
        assert agreement.share(point.position) == pytest.approx((votes + total) / (ways + 2))


def test_metrics_that_cluster_one_matrix_count_once():
    analysis = analyze(
        plain_network(), noise_images(), metrics=["r2cca-rank", "r2cca"], samples=40, stability=False
    )
    for normalize, metrics in ((False, {"r2cca", "r2cca-rank"}), (True, {"r2cca"})):
        plan = analysis.select(metric="r2cca", normalize=normalize)
        assert {way.metric for way in analysis.choice_agreement(plan).ways} == metrics


def test_a_better_partition_is_named_with_its_positions():
    """Some of these similarities trap k-means; the best of all algorithms is then the better one."""
    points = points_of(plain_network(((20, 4),)))
    better = 0
    for seed in range(8):
        values = positive(20, seed).numpy()
        similarity = StoredSimilarity(points, values, "cka", 100)
        found = {name: get_algorithm(name)(values, 4) for name in installed_algorithms()}
        ways, near = ways_of({"cka": similarity}, lambda metric, found=found: found, SelectionOptions(4))
        lowest = min(found.values(), key=lambda clustering: clustering.inertia)
        agreement = ChoiceAgreement((), "cka", "kmeans", ways, near)
        if found["kmeans"].inertia > lowest.inertia * (1 + 1e-9):
            better += 1
            assert agreement.better.found.inertia == lowest.inertia
            layers = choose_positions(lowest, "center", values)
            assert agreement.better.found.positions == tuple(layer + 1 for layer in layers)
            assert f"--algorithm {lowest.algorithm}" in agreement.better.sentence()
        else:
            assert agreement.better is None
        assert ChoiceAgreement((), "cka", lowest.algorithm, ways, near).better is None
    assert 0 < better < 8


def test_a_list_that_was_cut_says_more_than():
    near = NearOptimalChoices("cka", ((1, 5), (2, 5)), complete=False)
    assert near.share(5) == 1
    assert near.share(1) == 0.5
    way = Way("cka", "kmeans", 1.0, (1, 5), contiguous=True)
    agreement = ChoiceAgreement((1, 5), "cka", "kmeans", (way,), {"cka": near})
    assert agreement.share(1) == pytest.approx(0.75)
    assert "more than 2" in agreement.sentence()


def test_the_stored_analysis_says_the_same(analysis, tmp_path):
    analysis.save(tmp_path)
    summary = json.loads((tmp_path / "analysis.json").read_text())["summary"]
    assert summary["agreement_of_ways"] == analysis.choice_agreement(analysis.plan).sentence()
    for loaded in (Analysis.load(tmp_path), StoredAnalysis.load(tmp_path)):
        plan = loaded.select(k=4, algorithm="hierarchical")
        assert loaded.choice_agreement(plan) == analysis.choice_agreement(plan)


def test_no_gap_where_the_best_inertia_is_not_positive(analysis):
    """Similarities that are no inner products can have a best inertia of 0 or less."""

    def with_inertias(kmeans, best, *, same=False):
        found = analysis.clusters.clusterings["cka"]
        other = (0, *([1] * 6), 2)
        changed = {
            "kmeans": replace(
                found["kmeans"], inertia=kmeans, labels=other if same else found["kmeans"].labels
            ),
            "segments": replace(found["segments"], inertia=best, labels=other),
        }
        clusterings = {**analysis.clusters.clusterings, "cka": {**found, **changed}}
        return replace(analysis, clusters=replace(analysis.clusters, clusterings=clusterings))

    assert with_inertias(0.3, -0.1).gap("cka") is None
    assert with_inertias(0.3, 0.0).gap("cka") is None
    assert with_inertias(0.3, 0.2).gap("cka") == pytest.approx(0.5)
    assert with_inertias(-0.1, -0.1, same=True).gap("cka") == 0


def test_inertia_is_one_objective_for_all_algorithms(analysis):
    """That of contiguous and of other partitions, with real centroids in the space the layers lie in."""
    values = analysis.similarities["cka"].values.numpy()
    eigenvalues, vectors = np.linalg.eigh(values)
    points = vectors * np.sqrt(np.maximum(eigenvalues, 0))
    for clustering in analysis.clusters.clusterings["cka"].values():
        labels = np.asarray(clustering.labels)
        direct = sum(
            ((points[labels == label] - points[labels == label].mean(0)) ** 2).sum() for label in set(labels)
        )
        assert clustering.inertia == pytest.approx(direct, abs=1e-9)
