"""Hint plans: choosing, pairing, and the way to a file and back."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from pursuhint.clustering import Clustering
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import find_hint_points
from pursuhint.hints.options import default_k
from pursuhint.hints.plan import HintPair, HintPlan, choose_positions
from pursuhint.similarity import LayerSimilarity
from tests.helpers.analysis_networks import plain_network, points_of


@pytest.fixture(scope="module")
def network():
    return plain_network()


@pytest.fixture(scope="module")
def points(network):
    """Eight points in stages of 3, 2 and 3."""
    return points_of(network)


def grouped(points, sizes):
    """Similarity with obvious groups."""
    group = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    values = torch.where(group[:, None] == group, 0.9, 0.1).double()
    return LayerSimilarity(points, values.fill_diagonal_(1), "cka", 100)


def positions(plan):
    return [point.position for point in plan.teacher_points]


def students(plan):
    return [point.position for point in plan.student_points]


# -- choosing ------------------------------------------------------------------------------------------------

SCATTERED = Clustering((0, 0, 1, 0, 0, 1, 1, 2), 0.0, 1, "kmeans")


@pytest.mark.parametrize(
    ("position", "expected"), [("center", (1, 5, 7)), ("last", (4, 6, 7)), ("first", (0, 2, 7))]
)
def test_one_layer_of_each_cluster(position, expected):
    assert choose_positions(SCATTERED, position, torch.eye(8)) == expected


def test_medoid_is_the_member_nearest_to_the_centroid():
    line = torch.tensor([0, 1, 10, 4, 2, 11, 12, 30]).double()
    similarity = torch.outer(line, line)
    assert choose_positions(SCATTERED, "medoid", similarity) == (4, 5, 7)  # nearest to 1.75, 11 and 30
    assert choose_positions(SCATTERED, "medoid", torch.eye(8)) == (0, 2, 7), "the shallower of equals"
    with pytest.raises(PursuhintError, match="7 layers in the similarity, 8 in the clustering"):
        choose_positions(SCATTERED, "medoid", torch.eye(7))


def test_positions_are_in_depth_order():
    assert choose_positions(Clustering((0, 1, 1, 0, 0), 0.0, 1, "kmeans"), "last", torch.eye(5)) == (2, 4)


def test_unknown_position():
    with pytest.raises(
        PursuhintError, match="no position in a cluster named 'centre'; did you mean 'center'"
    ):
        choose_positions(SCATTERED, "centre", torch.eye(8))


@pytest.mark.parametrize("algorithm", ["kmeans", "segments"])
def test_two_obvious_groups_give_one_hint_point_each(points, algorithm):
    plan = HintPlan.choose(grouped(points, (5, 3)), k=2, algorithm=algorithm)
    assert positions(plan) == [3, 7]
    assert len(plan) == 2
    assert plan.student_points == ()
    assert plan.origin == {
        "strategy": "chosen",
        "metric": "cka",
        "k": 2,
        "algorithm": algorithm,
        "position": "center",
        "normalize": False,
        "num_samples": 100,
    }


def test_default_k_is_the_number_of_stages(points):
    assert default_k(points) == 3
    assert default_k(points[:3]) == 3, "one stage"
    assert default_k(points[:2]) == 2, "one stage, two points"
    assert positions(HintPlan.choose(grouped(points, (2, 4, 2)))) == [1, 4, 7]


def test_k_larger_than_the_number_of_layers(points):
    with pytest.raises(PursuhintError, match="cannot choose 12 hint points from 8 layers; ask for at most 8"):
        HintPlan.choose(grouped(points, (4, 4)), k=12)


def test_conventional_and_stage_centers(network, points):
    assert positions(HintPlan.conventional(network, points)) == [3, 5, 8]
    assert positions(HintPlan.stage_centers(points)) == [2, 4, 7]


def test_random_is_seeded_sorted_and_distinct(points):
    plans = [HintPlan.random(points, 3, seed) for seed in range(200)]
    assert plans[5] == HintPlan.random(points, 3, 5)
    assert all(positions(plan) == sorted(set(positions(plan))) for plan in plans)
    assert len({tuple(positions(plan)) for plan in plans}) > 40, "of 56 possible"
    with pytest.raises(PursuhintError, match="cannot choose 9 hint points from 8 layers"):
        HintPlan.random(points, 9, 0)


def test_explicit_by_name_or_position(points):
    plan = HintPlan.explicit(points, ["7", points[1].module])
    assert positions(plan) == [7, 2]
    with pytest.raises(PursuhintError, match="no hint point 'layer9' among the 8"):
        HintPlan.explicit(points, ["layer9"])
    assert positions(HintPlan.explicit(points, [7, 2])) == [7, 2]
    with pytest.raises(
        PursuhintError, match="no hint point at position 9; this network has positions 1 to 8"
    ):
        HintPlan.explicit(points, [9])
    with pytest.raises(PursuhintError, match="at least one hint point"):
        HintPlan.explicit(points, [])


def test_a_point_of_the_teacher_may_teach_several_of_the_student(points):
    plan = HintPlan.explicit(points, [8, 8, 8])
    together = plan.with_student(points, pairing=["2", "5", "8"])
    assert [(pair.teacher.position, pair.student.position) for pair in together.pairs] == [
        (8, 2),
        (8, 5),
        (8, 8),
    ]
    with pytest.raises(PursuhintError, match=r"the pair .* occurs twice"):
        plan.with_student(points, pairing=["2", "2", "8"])


@pytest.mark.parametrize(("teachers", "students"), [(8, 3), (3, 8), (8, 8), (1, 4)])
def test_all_points_of_both_by_depth(points, teachers, students):
    plan = HintPlan.all_by_depth(points[:teachers], points[:students])
    assert set(plan.teacher_points) == set(points[:teachers])
    assert set(plan.student_points) == set(points[:students])
    assert len(plan) == max(teachers, students)
    for side in (plan.teacher_points, plan.student_points):
        assert [point.position for point in side] == sorted(point.position for point in side)


# -- pairing -------------------------------------------------------------------------------------------------


def test_conventional_pairing(points):
    student = plain_network(((2, 4), (1, 4), (2, 4)))
    plan = HintPlan.explicit(points, ["1", "4", "8"])
    assert students(plan.with_student(points_of(student), student)) == [2, 3, 5]
    assert students(plan.with_student(points_of(student))) == [2, 3, 5]
    assert plan.with_student(points_of(student)).origin["pairing"] == "conventional"


def test_even_pairing_when_the_numbers_differ(points):
    student = plain_network(((2, 4), (3, 4), (3, 4)))
    plan = HintPlan.explicit(points, ["1", "3", "5", "8"]).with_student(points_of(student), student)
    assert students(plan) == [2, 4, 6, 8]
    assert plan.origin["pairing"] == "even"
    plan = HintPlan.explicit(points, ["1", "3", "5"]).with_student(points_of(student), pairing="even")
    assert students(plan) == [2, 5, 8]


def test_shallower_hints_go_to_shallower_points_whatever_their_order(points):
    plan = HintPlan.explicit(points, ["8", "1", "4"]).with_student(points)
    assert list(zip(positions(plan), students(plan))) == [(8, 8), (1, 3), (4, 5)]


def test_explicit_pairing(points):
    plan = HintPlan.explicit(points, ["2", "5"]).with_student(points, pairing=["4", points[0].module])
    assert students(plan) == [4, 1]
    assert plan.origin["pairing"] == "explicit"
    with pytest.raises(PursuhintError, match="1 student points were named for 2 hint points"):
        plan.with_student(points, pairing=["4"])
    with pytest.raises(PursuhintError, match="no hint point 'x'"):
        plan.with_student(points, pairing=["4", "x"])


def test_student_with_too_few_points(points):
    plan = HintPlan.explicit(points, ["1", "2", "3"])
    with pytest.raises(PursuhintError, match="student has 2 candidate points, fewer than the 3 hint points"):
        plan.with_student(points[:2])


def test_unknown_pairing(points):
    with pytest.raises(PursuhintError, match="no pairing named 'evn'; did you mean 'even'"):
        HintPlan.explicit(points, ["1"]).with_student(points, pairing="evn")


def test_half_a_pairing_is_refused(points):
    with pytest.raises(PursuhintError, match="some hint points have a student's point"):
        HintPlan((HintPair(points[0], points[0]), HintPair(points[1])))


# -- files ---------------------------------------------------------------------------------------------------


def test_round_trip(points, tmp_path):
    chosen = HintPlan.choose(grouped(points, (5, 3)), k=2)
    for plan in (chosen, chosen.with_student(points), HintPlan.random(points, 4, 7)):
        plan.save(tmp_path / "hints.json")
        assert HintPlan.load(tmp_path / "hints.json") == plan
    assert json.loads((tmp_path / "hints.json").read_text())["schema"] == 1


def saved(points, path):
    HintPlan.random(points, 2, 0).save(path)
    return json.loads(path.read_text())


def test_missing_and_damaged_files(points, tmp_path):
    path = tmp_path / "hints.json"
    with pytest.raises(PursuhintError, match=r"no hint plan at .*hints\.json"):
        HintPlan.load(path)
    saved(points, path)
    path.write_text(path.read_text()[:-40])
    with pytest.raises(PursuhintError, match="not valid JSON"):
        HintPlan.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda file: file.update(schema=2), "has schema 2; this version of PursuHint reads schema 1"),
        (lambda file: file.update(schema="x"), "schema: Input should be 1"),
        (lambda file: file.update(extra=1), "extra: Extra inputs are not permitted"),
        (lambda file: file.pop("pairs"), "pairs: Field required"),
        (lambda file: file.update(pairs=[]), "at least one hint point"),
        (lambda file: file["pairs"][0]["teacher"].pop("module"), "pairs.0.teacher.module: Field required"),
        (
            lambda file: file["pairs"][1]["teacher"].update(activation="mid"),
            "pairs.1.teacher.activation: Input should be 'pre' or 'post'",
        ),
        (
            lambda file: file["pairs"][0]["teacher"].update(position="first"),
            "pairs.0.teacher.position: Input should be a valid integer",
        ),
        (lambda file: file["pairs"][0].update(student=file["pairs"][0]["teacher"]), "name all or none"),
    ],
)
def test_files_that_are_no_hint_plan(points, tmp_path, change, message):
    path = tmp_path / "hints.json"
    file = saved(points, path)
    change(file)
    path.write_text(json.dumps(file))
    with pytest.raises(PursuhintError, match=rf"the hint plan .*hints.json .*{message}"):
        HintPlan.load(path)


def test_a_list_is_no_hint_plan(tmp_path):
    (tmp_path / "hints.json").write_text("[1, 2]")
    with pytest.raises(PursuhintError, match=r"hints\.json is not valid: the file: Input should be"):
        HintPlan.load(tmp_path / "hints.json")


# -- meeting a network again ---------------------------------------------------------------------------------


def test_bind_finds_sizes_anew(network, points):
    plan = HintPlan.explicit(points, ["2", "6"]).with_student(points)
    student = plain_network(((3, 4), (2, 6), (3, 5)))
    bound = plan.bind(network, torch.zeros(1, 3, 32, 32), student_network=student)
    assert [point.spatial for point in bound.teacher_points] == [(32, 32), (8, 8)]
    assert [point.channels for point in bound.teacher_points] == [8, 10]
    assert [point.channels for point in bound.student_points] == [6, 5]
    assert bound.origin == plan.origin
    assert plan.bind(network, torch.zeros(1, 3, 16, 16)) == plan


def test_bind_keeps_the_activation(network):
    plan = HintPlan.stage_centers(points_of(network, activation="pre"))
    assert plan.bind(network, torch.zeros(1, 3, 16, 16)) == plan


def test_bind_finds_points_that_a_pattern_asked_for(network):
    points = find_hint_points(network, torch.zeros(1, 3, 16, 16), include=["*.0"])
    plan = HintPlan.explicit(points, ["2", "3"])
    bound = plan.bind(network, torch.zeros(1, 3, 16, 16))
    assert [(p.module, p.position, p.total) for p in bound.teacher_points] == [("1.0", 2, 8), ("2.0", 3, 8)]


def test_bind_to_a_network_without_the_point(points):
    small = nn.Sequential(*plain_network(((2, 8), (2, 12)))[:4], nn.Flatten(), nn.LazyLinear(2))
    small(torch.zeros(1, 3, 16, 16))
    plan = HintPlan.explicit(points, ["8"])
    with pytest.raises(PursuhintError, match=r"hint point '7\.2' is not a module of Sequential; "):
        plan.bind(small, torch.zeros(1, 3, 16, 16))
