"""Paired comparisons against SciPy, published values and simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pursuhint.errors import PursuhintError
from pursuhint.study.multiplicity import holm
from pursuhint.study.paired_statistics import (
    compare_pairs,
    conclusion,
    correct_for_multiplicity,
    summarize,
)
from pursuhint.study.power import detectable_difference

# Student (1908), table 1: additional hours of sleep of ten patients under two drugs.
SLEEP_1 = (0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0)
SLEEP_2 = (1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4)


def test_summary_uses_the_sample_standard_deviation():
    summary = summarize([1.0, 2.0, 3.0])
    assert (summary.mean, summary.std, summary.n) == (2.0, 1.0, 3)
    assert str(summary) == "2.00 ± 1.00 (3 seeds)"


def test_summary_of_one_seed_has_no_spread():
    assert summarize([97.5]).std is None
    assert str(summarize([97.5])) == "97.50 (1 seed)"


def test_students_own_example():
    """The textbook result: t = 4.0621, p = 0.002833, interval 0.70 to 2.46."""
    comparison = compare_pairs("drug 2", SLEEP_2, "drug 1", SLEEP_1)
    assert comparison.mean == pytest.approx(1.58)
    assert comparison.p_value == pytest.approx(0.002833, abs=5e-7)
    assert comparison.low == pytest.approx(0.7001142, abs=1e-6)
    assert comparison.high == pytest.approx(2.4598858, abs=1e-6)
    assert comparison.verdict == "better"


@pytest.mark.parametrize("n", [3, 5, 12])
@pytest.mark.parametrize("confidence", [0.9, 0.95])
def test_agrees_with_scipy(n, confidence):
    generator = np.random.default_rng(n)
    first, second = generator.normal(1, 2, n), generator.normal(0, 2, n)
    comparison = compare_pairs("a", first, "b", second, confidence=confidence)
    reference = stats.ttest_rel(first, second)
    interval = reference.confidence_interval(confidence)
    assert comparison.p_value == pytest.approx(reference.pvalue, rel=1e-9)
    assert comparison.low == pytest.approx(interval.low, rel=1e-9)
    assert comparison.high == pytest.approx(interval.high, rel=1e-9)


def test_swapping_the_arms_changes_the_sign_and_nothing_else():
    one = compare_pairs("a", [3.0, 5.0, 4.5], "b", [2.0, 3.9, 3.6])
    other = compare_pairs("b", [2.0, 3.9, 3.6], "a", [3.0, 5.0, 4.5])
    assert (one.mean, one.low, one.high) == (-other.mean, -other.high, -other.low)
    assert (one.p_value, one.detectable) == (other.p_value, other.detectable)
    assert (one.verdict, other.verdict) == ("better", "worse")


def test_the_interval_covers_the_truth_as_often_as_it_says():
    generator = np.random.default_rng(0)
    differences = generator.normal(0.4, 1.0, (600, 3))
    covered = 0
    for row in differences:
        comparison = compare_pairs("a", row, "b", [0.0] * 3)
        covered += comparison.low <= 0.4 <= comparison.high
    assert covered / 600 == pytest.approx(0.95, abs=0.025)


@pytest.mark.parametrize(("n", "expected"), [(3, 3.26), (5, 1.68), (10, 0.996), (30, 0.529)])
def test_detectable_difference_equals_published_power_tables(n, expected):
    """Effect sizes for 80 % power of a paired t-test at 5 %, two-sided, as R's power.t.test prints them."""
    assert detectable_difference(1.0, n) == pytest.approx(expected, rel=6e-3)


@pytest.mark.parametrize("n", [2, 3, 6])
def test_detectable_difference_is_found_four_times_out_of_five(n):
    difference = detectable_difference(1.0, n)
    samples = np.random.default_rng(n).normal(difference, 1.0, (40_000, n))
    found = stats.ttest_1samp(samples, 0.0, axis=1).pvalue < 0.05
    assert found.mean() == pytest.approx(0.8, abs=0.01)


def test_detectable_difference_scales_with_the_spread_and_falls_with_seeds():
    assert detectable_difference(2.0, 4) == pytest.approx(2 * detectable_difference(1.0, 4))
    sizes = [detectable_difference(1.0, n) for n in (2, 3, 4, 8, 100)]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"std": 1.0, "n": 1}, "needs at least 2 pairs, got 1"),
        ({"std": 0.0, "n": 3}, "must be positive, got 0.0"),
        ({"std": 1.0, "n": 3, "power": 0.04}, "above the significance level"),
        ({"std": 1.0, "n": 3, "confidence": 1.0}, "strictly between 0 and 1, got 1.0"),
    ],
)
def test_detectable_difference_refuses_what_has_no_answer(arguments, message):
    with pytest.raises(PursuhintError, match=message):
        detectable_difference(**arguments)


def test_one_seed_gives_no_interval_and_says_so():
    comparison = compare_pairs("chosen", [97.0], "conventional", [96.5])
    assert (comparison.spread, comparison.verdict) == ("few", "unknown")
    assert comparison.low is comparison.p_value is comparison.detectable is comparison.std is None
    assert conclusion(comparison) == (
        "no conclusion: chosen minus conventional = +0.5 points in 1 seed, and an interval takes at least 3"
    )


@pytest.mark.parametrize("seeds", [2, 3])
def test_two_seeds_give_no_interval_and_three_do(seeds):
    comparison = compare_pairs("a", [97.0, 96.0, 95.5][:seeds], "b", [96.5, 95.4, 95.1][:seeds])
    assert comparison.std is not None
    assert (comparison.low is None) == (comparison.p_value is None) == (seeds == 2)
    assert comparison.spread == ("few" if seeds == 2 else "some")
    assert comparison.verdict == ("unknown" if seeds == 2 else "better")


def test_equal_arms_are_called_equal():
    comparison = compare_pairs("chosen", [97.0, 96.0, 95.0], "conventional", [97.0, 96.0, 95.0])
    assert comparison.spread == "none"
    assert "no difference at all" in conclusion(comparison)


def test_a_constant_difference_gives_no_false_certainty():
    """97.3 - 97.0 and 96.3 - 96.0 differ by rounding noise only."""
    comparison = compare_pairs("a", [97.3, 96.3, 95.3], "b", [97.0, 96.0, 95.0])
    assert comparison.std == 0.0
    assert comparison.low is None
    assert "+0.3 points in every one of 3 seeds" in conclusion(comparison)


def test_no_evidence_names_what_could_not_be_seen():
    comparison = compare_pairs("chosen", [97.0, 96.0, 98.0], "conventional", [96.5, 96.5, 97.5])
    sentence = conclusion(comparison, arm="chosen (k-means)")
    assert comparison.verdict == "undecided"
    assert sentence.startswith(
        "no evidence of a difference: chosen (k-means) minus conventional = +0.2 points, 95 % interval "
        "-1.3 to +1.6 over 3 seeds; "
    )
    assert sentence.endswith(
        f"differences below {comparison.detectable:.1f} points could not have been seen reliably"
    )


def test_a_clear_difference_is_called_one_and_its_direction_is_right():
    values = [97.0, 96.0, 98.0], [90.0, 89.5, 91.2]
    assert conclusion(compare_pairs("a", values[0], "b", values[1])).startswith("a is better than b by 6.8 ")
    assert conclusion(compare_pairs("b", values[1], "a", values[0])).startswith("b is worse than a by 6.8 ")


def test_small_numbers_do_not_print_as_zero():
    comparison = compare_pairs("a", [1.011, 1.022, 1.032], "b", [1.0, 1.01, 1.02])
    assert "by 0.01 points, 95 % interval +0.01 to +0.01 " in conclusion(comparison)


def test_holm_on_a_known_example():
    """Worked example: m = 4, raw p-values 0.01, 0.04, 0.03, 0.005 (as R's p.adjust gives them)."""
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))


def test_holm_keeps_order_bounds_and_single_values():
    raw = np.random.default_rng(0).uniform(size=20)
    adjusted = np.array(holm(raw))
    assert (adjusted >= raw).all()
    assert adjusted.max() <= 1
    assert (np.diff(adjusted[np.argsort(raw)]) >= 0).all()
    assert holm([0.2]) == (0.2,)
    assert holm([]) == ()


def test_holm_keeps_the_rate_of_any_false_finding():
    raw = np.random.default_rng(1).uniform(size=(4000, 5))
    assert np.mean([min(holm(row)) < 0.05 for row in raw]) == pytest.approx(0.05, abs=0.012)


def test_holm_refuses_what_is_not_a_probability():
    with pytest.raises(PursuhintError, match=r"between 0 and 1, got 1\.2"):
        holm([0.5, 1.2])


def test_correction_leaves_out_comparisons_without_a_p_value():
    control = [90.0, 91.0, 92.0]
    family = [
        compare_pairs("equal", control, "control", control),
        compare_pairs("better", [92.1, 93.0, 94.2], "control", control),
        compare_pairs("noisy", [89.0, 93.0, 92.0], "control", control),
    ]
    equal, better, noisy = correct_for_multiplicity(family)
    assert equal.adjusted_p_value is None
    assert better.family == noisy.family == 2
    assert better.adjusted_p_value == pytest.approx(2 * better.p_value)
    assert better.survives_correction


def test_a_difference_that_does_not_survive_the_correction_says_so():
    control = [90.0, 91.0, 92.0]
    family = [compare_pairs("arm", [91.0, 92.4, 92.9], "control", control)] * 4
    corrected = correct_for_multiplicity(family)[0]
    assert corrected.verdict == "better"
    assert "does not survive the correction for 4 comparisons" in conclusion(corrected)


def test_one_correction_is_for_one_control():
    with pytest.raises(PursuhintError, match="got b and c"):
        correct_for_multiplicity(
            [compare_pairs("a", [1.0, 2.0], "b", [1.0, 1.5]), compare_pairs("a", [1.0, 2.0], "c", [1.0, 1.5])]
        )


@pytest.mark.parametrize(
    ("values", "control", "message"),
    [
        ([1.0, 2.0], [1.0], "a has 2 results and b has 1"),
        ([], [], "there is no result of a"),
        ([1.0, float("nan")], [1.0, 2.0], "result of a number 2 is nan"),
    ],
)
def test_refuses_results_that_cannot_be_paired(values, control, message):
    with pytest.raises(PursuhintError, match=message):
        compare_pairs("a", values, "b", control)
