"""The probability of improvement against its definition, SciPy and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pursuhint.errors import PursuhintError
from pursuhint.study import probability_of_improvement


def test_it_is_the_fraction_of_pairs_that_win_with_ties_as_half():
    tasks = {"a": ([3.0, 1.0], [2.0, 0.0, 1.0]), "b": ([5.0], [5.0])}
    found = probability_of_improvement(tasks)
    # 3 beats all three; 1 loses to 2, beats 0 and equals 1
    assert dict(found.by_task) == {"a": pytest.approx((3 + 0 + 1 + 0.5) / 6), "b": 0.5}
    assert found.probability == pytest.approx((0.75 + 0.5) / 2)


def test_it_is_the_statistic_of_mann_and_whitney():
    generator = np.random.default_rng(0)
    arm, control = generator.normal(0.3, 1, 12), generator.normal(0, 1, 9)
    expected = stats.mannwhitneyu(arm, control).statistic / (12 * 9)
    assert probability_of_improvement({"a": (arm, control)}).probability == pytest.approx(expected)


def test_paired_it_compares_within_a_seed():
    tasks = {"a": ([1.0, 2.0, 3.0], [0.0, 2.0, 4.0])}
    assert probability_of_improvement(tasks, paired=True).probability == pytest.approx(0.5)
    shifted = {"a": ([1.1, 2.1, 3.1], [1.0, 2.0, 3.0])}
    assert probability_of_improvement(shifted, paired=True).probability == 1.0
    assert probability_of_improvement(shifted).probability == pytest.approx(6 / 9)


def test_swapping_the_arms_mirrors_it_and_the_scale_of_a_task_does_not_count():
    generator = np.random.default_rng(1)
    tasks = {name: (generator.normal(0.5, 1, 6), generator.normal(0, 1, 6)) for name in "abc"}
    one = probability_of_improvement(tasks)
    other = probability_of_improvement({name: (second, first) for name, (first, second) in tasks.items()})
    scaled = probability_of_improvement(
        {name: (first * 9 + 3, second * 9 + 3) for name, (first, second) in tasks.items()}
    )
    assert other.probability == pytest.approx(1 - one.probability)
    assert (scaled.probability, scaled.low, scaled.high) == (one.probability, one.low, one.high)
    assert 0 <= one.low <= one.probability <= one.high <= 1


@pytest.mark.parametrize("paired", [True, False])
def test_the_interval_covers(paired):
    """Percentile intervals of few seeds are a little too narrow; at 12 seeds on 4 tasks they nearly hold."""
    generator, covered, runs = np.random.default_rng(5), 0, 300
    truth = stats.norm.cdf(0.5 / np.sqrt(2))
    for _ in range(runs):
        tasks = {name: (generator.normal(0.5, 1, 12), generator.normal(0, 1, 12)) for name in range(4)}
        found = probability_of_improvement(tasks, paired=paired, resamples=400)
        covered += found.low <= truth <= found.high
    assert covered / runs >= 0.90


def test_more_tasks_give_a_narrower_interval_and_a_seed_the_same_one():
    generator = np.random.default_rng(2)
    tasks = {name: (generator.normal(0.5, 1, 8), generator.normal(0, 1, 8)) for name in range(9)}
    all_of_them = probability_of_improvement(tasks)
    one = probability_of_improvement({0: tasks[0]})
    assert all_of_them.high - all_of_them.low < one.high - one.low
    assert probability_of_improvement(tasks) == all_of_them
    assert str(all_of_them).endswith("over 9 tasks")


@pytest.mark.parametrize(
    ("tasks", "options", "message"),
    [
        ({}, {}, "at least one task"),
        ({"a": ([], [1.0])}, {}, "results of the arm on a must be finite numbers"),
        ({"a": ([1.0], [float("nan")])}, {}, "results of the control on a"),
        ({"a": ([1.0, 2.0], [1.0])}, {"paired": True}, "the arm has 2 and the control 1"),
        ({"a": ([1.0], [1.0])}, {"resamples": 0}, "resamples must be at least 1"),
        ({"a": ([1.0], [1.0])}, {"confidence": 1.0}, "strictly between 0 and 1"),
    ],
)
def test_refuses_what_cannot_be_compared(tasks, options, message):
    with pytest.raises(PursuhintError, match=message):
        probability_of_improvement(tasks, **options)
