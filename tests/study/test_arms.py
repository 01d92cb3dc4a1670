"""Every arm carries the function that chooses its hint points."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.features import find_hint_points
from pursuhint.hints import RULES, HintPlan
from pursuhint.models import create_model
from pursuhint.study import ARMS, DEFAULT_ARMS
from pursuhint.study.arms import Candidates, expand_sweep, find_arm


@pytest.fixture(scope="module")
def teacher():
    return create_model("resnet20", num_classes=10, in_channels=1)


def candidates(teacher, k: int, asked: list[str], **given: HintPlan) -> Candidates:
    points = find_hint_points(teacher, torch.zeros(1, 1, 8, 8))
    students = find_hint_points(
        create_model("resnet8", num_classes=10, in_channels=1), torch.zeros(1, 1, 8, 8)
    )

    def cluster(metric: str, algorithm: str, position: str) -> HintPlan:
        asked.append(":".join((metric, algorithm, position)))
        return HintPlan.explicit(points, list(range(1, k + 1)))

    def by_rule(name: str, seed: int) -> HintPlan:
        asked.append(name)
        return HintPlan.explicit(points, list(range(1, k + 1)))

    return Candidates(teacher, points, students, k, cluster, by_rule, by_rule, given)


@pytest.mark.parametrize("name", DEFAULT_ARMS)
def test_an_arm_says_whether_it_clusters_and_whether_k_is_free(teacher, name):
    asked: list[str] = []
    plans = [ARMS[name].choose(candidates(teacher, k, asked), 0) for k in (2, 4)]
    sizes = [0 if plan is None else len(plan) for plan in plans]
    assert (sizes == [2, 4]) == ARMS[name].takes_k
    assert (len(set(sizes)) == 1) != ARMS[name].takes_k
    assert asked == ([f":{name}:"] * 2 if ARMS[name].clusters else [])


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_an_arm_that_uses_what_the_rule_takes(teacher, name):
    asked: list[str] = []
    ARMS[name].choose(candidates(teacher, 3, asked), 0)
    assert asked == [name]
    uses = ARMS[name].uses
    assert ("k" in uses) == RULES[name].takes_k
    assert ("position" in uses) == RULES[name].takes_position
    assert ("metrics" in uses) == RULES[name].similarity
    assert ("samples" in uses) == (RULES[name].analysis or RULES[name].images > 0)


def test_an_arm_names_metric_algorithm_and_position(teacher):
    asked: list[str] = []
    arm = find_arm("r2cca:segments:last")
    assert len(arm.choose(candidates(teacher, 3, asked), 0)) == 3
    assert asked == ["r2cca:segments:last"]
    assert arm.uses == ("k", "samples", "max_samples", "stable_at")


@pytest.mark.parametrize("name", ["r3cca:kmeans:last", "cka:kmean:last", "cka:kmeans:lost", "cka:kmeans"])
def test_a_wrong_part_of_such_a_name_is_refused(name):
    with pytest.raises(
        PursuhintError, match=r"no (metric|clustering algorithm|position in a cluster|arm) named"
    ):
        find_arm(name)


def test_the_sweep_has_one_hint_at_every_layer(teacher):
    arms = expand_sweep(("alone", "sweep"), 9)
    assert arms[0] == "alone"
    found = candidates(teacher, 3, [])
    plans = [find_arm(arm).choose(found, 0) for arm in arms[1:]]
    assert [[p.position for p in plan.teacher_points] for plan in plans] == [[n] for n in range(1, 10)]
    assert [plan.student_points[0].position for plan in plans] == [1, 1, 1, 2, 2, 2, 3, 3, 3]


def test_a_layer_that_is_not_there_is_refused():
    assert expand_sweep(("sweep:9",), 9) == ("sweep:9",)
    with pytest.raises(PursuhintError, match="layer 10"):
        expand_sweep(("sweep:10",), 9)


@pytest.mark.parametrize("name", DEFAULT_ARMS)
def test_only_the_random_arm_depends_on_the_seed(teacher, name):
    chosen = [ARMS[name].choose(candidates(teacher, 3, []), seed) for seed in range(5)]
    positions = {() if plan is None else tuple(p.position for p in plan.teacher_points) for plan in chosen}
    assert (len(positions) > 1) == (name == "random")


def test_an_arm_with_given_points_takes_its_plan(teacher):
    plan = HintPlan.explicit(candidates(teacher, 1, []).points, [7])
    assert find_arm("hints:7").choose(candidates(teacher, 3, [], **{"hints:7": plan}), 0) is plan


def test_the_table_of_arms_needs_no_torch():
    code = "import sys, pursuhint.study.arms; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
