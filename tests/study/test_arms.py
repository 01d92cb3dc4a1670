"""Every arm carries the function that chooses its hint points."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from pursuhint.features import find_hint_points
from pursuhint.hints import HintPlan
from pursuhint.models import create_model
from pursuhint.study import ARMS
from pursuhint.study.arms import Candidates, find_arm


@pytest.fixture(scope="module")
def teacher():
    return create_model("resnet20", num_classes=10, in_channels=1)


def candidates(teacher, k: int, asked: list[str], **given: HintPlan) -> Candidates:
    points = find_hint_points(teacher, torch.zeros(1, 1, 8, 8))

    def cluster(algorithm: str) -> HintPlan:
        asked.append(algorithm)
        return HintPlan.explicit(points, list(range(1, k + 1)))

    return Candidates(teacher, points, k, cluster, given)


@pytest.mark.parametrize("name", ARMS)
def test_an_arm_says_whether_it_clusters_and_whether_k_is_free(teacher, name):
    asked: list[str] = []
    plans = [ARMS[name].choose(candidates(teacher, k, asked), 0) for k in (2, 4)]
    sizes = [0 if plan is None else len(plan) for plan in plans]
    assert (sizes == [2, 4]) == ARMS[name].takes_k
    assert (len(set(sizes)) == 1) != ARMS[name].takes_k
    assert asked == ([name] * 2 if ARMS[name].clusters else [])


@pytest.mark.parametrize("name", ARMS)
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
