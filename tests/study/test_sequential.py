"""Adding seeds until the answer is known: looks, levels, and error rates by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from pursuhint.errors import PursuhintError
from pursuhint.study import SequentialPlan, compare_pairs, correct_for_multiplicity

MARGIN = 0.5


@pytest.mark.parametrize(
    ("first", "most", "looks"),
    [(5, 12, (5, 8, 12)), (3, 20, (3, 5, 8, 12, 18, 20)), (5, 5, (5,)), (5, 6, (5, 6))],
)
def test_looks_and_what_they_spend(first, most, looks):
    plan = SequentialPlan(first, most)
    assert plan.looks == looks
    assert sum(plan.levels) == pytest.approx(0.05)
    assert all(level > 0 for level in plan.levels)
    assert sum(plan.levels[:1]) == pytest.approx(0.05 * (first / most) ** 2)
    assert plan.confidence(looks[-1]) == pytest.approx(1 - plan.levels[-1])


def test_a_single_look_is_the_fixed_study():
    assert SequentialPlan(5, 5).confidence(5) == pytest.approx(0.95)


def test_seeds_follow_the_largest():
    assert SequentialPlan(3, 6).seeds((4, 0, 9)) == (4, 0, 9, 10, 11, 12)
    assert SequentialPlan(3, 3).seeds((0, 1, 2)) == (0, 1, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"first": 2}, "begins with at least 3 seeds, got 2"),
        ({"first": 8, "most": 5}, r"most seeds \(5\) must be at least those to begin with \(8\)"),
        ({"first": 5, "error": 1.5}, "strictly between 0 and 1"),
    ],
)
def test_refuses_plans_that_cannot_be(options, message):
    with pytest.raises(PursuhintError, match=message):
        SequentialPlan(**options)
    with pytest.raises(PursuhintError, match="looks at 5, 8, 12 seeds, not at 6"):
        SequentialPlan(5, 12).confidence(6)


def p_values(differences):
    """Of a difference and of equality within the margin, over the last axis."""
    n = differences.shape[-1]
    mean, error = differences.mean(-1), differences.std(-1, ddof=1) / math.sqrt(n)
    two_sided = 2 * stats.t.sf(abs(mean) / error, n - 1)
    equal = stats.t.sf((MARGIN - abs(mean)) / error, n - 1)
    return two_sided, equal


def ever(plan, differences):
    """Fractions of studies with any arm called different, and equal, at any look, after Holm's correction."""
    different, equal = ever_in(plan, differences)
    return different.mean(), equal.mean()


def ever_in(plan, differences):
    """Whether any arm of each study is called different, and equal, at any look, after Holm's correction.

    The smallest p-value of m arms is significant after Holm if it is below level / m.
    """
    different = equal = np.zeros(len(differences), dtype=bool)
    arms = differences.shape[1]
    for seeds, level in zip(plan.looks, plan.levels, strict=True):
        two_sided, same = p_values(differences[..., :seeds])
        different = different | (two_sided.min(1) < level / arms)
        equal = equal | (same.min(1) < level / arms)
    return different, equal


def studies(generator, *, arms, most, true, spread, rows=20_000):
    """Differences to a control that all arms share: (studies, arms, seeds)."""
    control = generator.normal(0, spread, (rows, 1, most))
    return true + generator.normal(0, spread, (rows, arms, most)) - control


@pytest.mark.parametrize(("first", "most"), [(3, 12), (5, 12), (5, 20)])
@pytest.mark.parametrize("arms", [1, 4])
def test_the_level_is_kept_over_all_looks(first, most, arms):
    plan, generator = SequentialPlan(first, most), np.random.default_rng(arms)
    noise = 0.005
    for spread in (0.2, 1.0):
        rates = ever(plan, studies(generator, arms=arms, most=most, true=0.0, spread=spread))
        assert rates[0] <= plan.error + noise
        rates = ever(plan, studies(generator, arms=arms, most=most, true=MARGIN, spread=spread))
        assert rates[1] <= plan.error + noise


@pytest.mark.parametrize("over", ["cell", "all"])
def test_the_level_is_kept_over_all_cells_if_they_share_it(over):
    """Six cells of three arms; with the level in each of them, it is not kept over all: the test can fail."""
    cells, arms, most, rows = 6, 3, 12, 4000
    plan = SequentialPlan(5, most, 0.05 / cells if over == "all" else 0.05)
    for true, which in ((0.0, 0), (MARGIN, 1)):
        generator = np.random.default_rng(6)
        wrong = np.zeros(rows, dtype=bool)
        for _ in range(cells):
            found = studies(generator, arms=arms, most=most, true=true, spread=0.2, rows=rows)
            wrong |= ever_in(plan, found)[which]
        if over == "all":
            assert wrong.mean() <= 0.05 + 0.008
        else:
            assert wrong.mean() > 0.15


def test_looking_as_often_at_five_percent_would_not_keep_it():
    """The control of the test above: it can fail."""
    differences = studies(np.random.default_rng(0), arms=1, most=20, true=0.0, spread=1.0)
    found = [p_values(differences[..., :seeds])[0][:, 0] < 0.05 for seeds in SequentialPlan(3, 20).looks]
    assert np.any(found, axis=0).mean() > 0.1


def test_clear_answers_come_early_and_close_ones_late():
    plan, generator = SequentialPlan(5, 20), np.random.default_rng(3)
    clear = studies(generator, arms=1, most=20, true=3.0, spread=0.5)
    same = studies(generator, arms=1, most=20, true=0.0, spread=0.1)
    for differences, index in ((clear, 0), (same, 1)):
        first = p_values(differences[..., :5])[index] < plan.levels[0]
        assert first.mean() > 0.5
        assert ever(plan, differences)[index] > 0.99


def test_the_statistics_of_a_study_make_the_same_decisions():
    """`compare_pairs` at the confidence of a look, corrected, decides as the formulas above."""
    plan, generator = SequentialPlan(5, 12), np.random.default_rng(4)
    zeros = [0.0] * 12
    seen = set()
    for true in (0.0, 0.3, 1.0):
        for rows in studies(generator, arms=3, most=12, true=true, spread=0.25, rows=12):
            for seeds in plan.looks:
                level = 1 - plan.confidence(seeds)
                options = {"confidence": 1 - level, "margin": MARGIN}
                pairs = correct_for_multiplicity(
                    [compare_pairs("a", row[:seeds], "b", zeros[:seeds], **options) for row in rows]
                )
                two_sided, equal = p_values(rows[:, :seeds])
                for pair in pairs:
                    seen.add((pair.verdict, pair.decided))
                best = min(pairs, key=lambda pair: pair.p_value)
                assert best.p_value == pytest.approx(two_sided.min())
                if best.verdict in ("better", "worse"):
                    assert best.decided == (two_sided.min() < level / 3)
                if min(equal) < level / 3:
                    assert any(pair.verdict == "equal" and pair.decided for pair in pairs)
    assert {("equal", True), ("better", True), ("undecided", False)} <= seen
