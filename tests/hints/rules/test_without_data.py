"""Rules that need the layers alone, or their similarity."""

from __future__ import annotations

import itertools

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.features import find_hint_points
from pursuhint.hints import RULES, HintPlan, RuleSource, choose_by_rule
from pursuhint.models import create_model
from pursuhint.published import published_results
from pursuhint.similarity import LayerSimilarity
from tests.helpers.analysis_networks import plain_network, points_of

WITHOUT_DATA = ("even", "first", "last", "reverse", "all-to-one")


@pytest.fixture(scope="module")
def points():
    """Eight points in stages of 3, 2 and 3."""
    return points_of(plain_network())


def positions(plan: HintPlan) -> list[int]:
    return [point.position for point in plan.teacher_points]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("even", [2, 5, 8]),
        ("reverse", [2, 5, 8]),
        ("first", [1, 2, 3]),
        ("last", [6, 7, 8]),
        ("all-to-one", [4, 4, 4]),
    ],
)
def test_positions_counted_by_hand(points, rule, expected):
    plan = choose_by_rule(rule, RuleSource(points, 3))
    assert positions(plan) == expected
    assert plan.origin["strategy"] == rule


def test_even_leaves_parts_whose_sizes_differ_by_at_most_one(points):
    for k in range(1, 9):
        ends = [0, *positions(choose_by_rule("even", RuleSource(points, k)))]
        sizes = [late - early for early, late in itertools.pairwise(ends)]
        assert ends[-1] == 8
        assert max(sizes) - min(sizes) <= 1


def test_reverse_teaches_the_deepest_layer_to_the_shallowest_point(points):
    plan = choose_by_rule("reverse", RuleSource(points, 3))
    assert RULES["reverse"].pairing == "reverse"
    students = plan.with_student(points, pairing="reverse").student_points
    assert [point.position for point in students] == [8, 5, 3]
    usual = plan.with_student(points).student_points
    assert [point.position for point in usual] == [3, 5, 8]


@pytest.mark.parametrize(("position", "layer"), [("center", 4), ("last", 8), ("first", 1)])
def test_one_layer_teaches_every_point(points, position, layer):
    plan = choose_by_rule("all-to-one", RuleSource(points, 3, position=position)).with_student(points)
    assert positions(plan) == [layer] * 3
    assert [point.position for point in plan.student_points] == [3, 5, 8]


def test_one_layer_has_no_medoid(points):
    with pytest.raises(PursuhintError, match="medoid"):
        choose_by_rule("all-to-one", RuleSource(points, 3, position="medoid"))


@pytest.mark.parametrize("rule", WITHOUT_DATA)
@pytest.mark.parametrize("k", [0, 9])
def test_a_number_of_hints_that_does_not_fit_is_refused(points, rule, k):
    with pytest.raises(PursuhintError, match="1 to 8"):
        choose_by_rule(rule, RuleSource(points, k))


# -- published


def published(name: str, activation: str, losses=()) -> list[int]:
    network = create_model(name, num_classes=10)
    size = 64 if name.startswith("torchvision") else 32
    found = find_hint_points(network, torch.zeros(1, 3, size, size), activation=activation)
    return positions(choose_by_rule("published", RuleSource(found, 3, teacher_name=name, losses=losses)))


@pytest.mark.parametrize(
    ("name", "activation", "losses", "expected"),
    [
        ("resnet110", "post", ("at", "kd"), [7, 29, 49]),
        ("resnet110", "pre", ("at",), [6, 27, 49]),
        ("resnet110", "pre", ("fitnet",), [8, 29, 49]),
        ("resnet32x4", "post", ("at",), [3, 8, 13]),
        ("wrn_40_2", "post", ("afd",), [1, 8, 16]),
        ("torchvision:resnet34", "post", ("at",), [2, 6, 11, 15]),
    ],
)
def test_published_positions_are_those_of_the_paper(name, activation, losses, expected):
    assert published(name, activation, losses) == expected
    rows = [row for row in published_results() if row.metric == "hint positions"]
    assert " ".join(map(str, expected)) in {row.value for row in rows if row.method == "PURSUhInT"}


@pytest.mark.parametrize(("name", "activation"), [("resnet20", "post"), ("resnet32x4", "pre")])
def test_a_teacher_without_published_positions_is_refused(name, activation):
    with pytest.raises(PursuhintError, match="are published for"):
        published(name, activation)


# -- influence


def chain(points, neighbours: list[float]) -> LayerSimilarity:
    """Similarity of layers as products of those of the neighbours between them."""
    values = torch.eye(len(points), dtype=torch.float64)
    for a, b in itertools.combinations(range(len(points)), 2):
        values[a, b] = values[b, a] = torch.tensor(neighbours[a:b]).prod()
    return LayerSimilarity(points, values, "cka", 100)


def test_influence_cuts_where_neighbours_are_least_similar(points):
    similarity = chain(points, [0.9, 0.5, 0.95, 0.9, 0.6, 0.9, 0.99])
    source = RuleSource(points, 3, position="last", similarity=similarity)
    plan = choose_by_rule("influence", source)
    assert positions(plan) == [2, 5, 8]
    assert plan.origin["metric"] == "cka"
    assert plan.origin["num_samples"] == 100


def test_influence_by_trying_all_boundaries(points):
    """The chosen boundaries have the smallest sum of similarities among all."""
    torch.manual_seed(0)
    for _ in range(20):
        neighbours = torch.rand(7).tolist()
        source = RuleSource(points, 4, position="last", similarity=chain(points, neighbours))
        ends = positions(choose_by_rule("influence", source))[:-1]
        best = min(
            itertools.combinations(range(1, 8), 3), key=lambda cut: sum(neighbours[c - 1] for c in cut)
        )
        assert tuple(ends) == best


def test_influence_needs_a_similarity(points):
    with pytest.raises(PursuhintError, match="analyze the teacher first"):
        choose_by_rule("influence", RuleSource(points, 3))
