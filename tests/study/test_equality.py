"""Practical equality against its definition, known values and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy import stats

from pursuhint.errors import PursuhintError
from pursuhint.study import compare_pairs, conclusion, correct_for_multiplicity, equality_p_value
from pursuhint.study.sign_flips import sign_flip_p_value


def equal_p(differences: np.ndarray, margin: float) -> np.ndarray:
    """Two one-sided tests as SciPy does them, one comparison a row."""
    above = stats.ttest_1samp(differences, -margin, axis=1, alternative="greater").pvalue
    below = stats.ttest_1samp(differences, margin, axis=1, alternative="less").pvalue
    return np.maximum(above, below)


@pytest.mark.parametrize("n", [3, 5, 12])
def test_the_p_value_is_that_of_two_one_sided_tests(n):
    rows = np.random.default_rng(n).normal(0.1, 0.4, (20, n))
    for row, expected in zip(rows, equal_p(rows, 0.5), strict=True):
        found = equality_p_value(row.mean(), row.std(ddof=1) / math.sqrt(n), n - 1, 0.5)
        assert found == pytest.approx(expected, rel=1e-9)
        pair = compare_pairs("a", row, "b", [0.0] * n, margin=0.5)
        interval = compare_pairs("a", row, "b", [0.0] * n, confidence=0.9)
        assert pair.equality_p_value == pytest.approx(expected, rel=1e-9)
        assert (pair.verdict == "equal") == (interval.low > -0.5 and interval.high < 0.5)


@pytest.mark.parametrize(
    ("values", "margin", "verdict"),
    [
        ([0.1, -0.1, 0.05, -0.02, 0.0], 0.5, "equal"),
        ([0.1, -0.1, 0.05, -0.02, 0.0], 0.05, "undecided"),
        ([0.1, -0.1, 0.05, -0.02, 0.0], None, "undecided"),
        ([0.2, 0.22, 0.19, 0.21, 0.2], 0.5, "equal"),
        ([0.2, 0.22, 0.19, 0.21, 0.2], 0.1, "better"),
        ([-0.2, -0.22, -0.19, -0.21, -0.2], 0.1, "worse"),
        ([3.0, -3.0, 1.0, -2.0, 0.5], 0.5, "undecided"),
        ([0.3, 0.3, 0.3], 0.5, "unknown"),
        ([0.1, 0.0], 0.5, "unknown"),
    ],
)
def test_verdicts(values, margin, verdict):
    assert compare_pairs("a", values, "b", [0.0] * len(values), margin=margin).verdict == verdict


@pytest.mark.parametrize(
    ("difference", "n", "grain", "verdict"),
    [
        (0.0, 5, 0.0, "equal"),
        (0.0, 4, 0.0, "unknown"),
        (0.0, 5, 0.5, "equal"),
        (0.0, 5, 2.0, "unknown"),
        (-0.3, 5, 0.1, "equal"),
        (0.3, 5, 0.3, "unknown"),
        (0.5, 8, 0.0, "unknown"),
        (1.0, 8, 0.0, "unknown"),
    ],
)
def test_the_same_difference_in_all_seeds_can_be_equal(difference, n, grain, verdict):
    pair = compare_pairs("a", [90.0 + difference] * n, "b", [90.0] * n, margin=0.5, grain=grain)
    assert (pair.verdict, pair.low, pair.p_value) == (verdict, None, None)
    assert compare_pairs("a", [90.0] * n, "b", [90.0] * n).verdict == "unknown"  # nothing is called equal
    if verdict == "equal":
        assert pair.equality_p_value == 0.5**n
        assert conclusion(pair).startswith("a and b are equal within 0.5 points: ")


def test_equality_without_spread_is_corrected_with_the_others():
    control = [90.0] * 8
    rows = [control, [90.1, 89.95, 90.05, 90.0, 89.9, 90.02, 90.0, 89.98]]
    same, varied = correct_for_multiplicity(
        [compare_pairs("a", row, "b", control, margin=0.5) for row in rows]
    )
    assert same.adjusted_equality_p_value == pytest.approx(0.5**8)
    assert varied.adjusted_equality_p_value == pytest.approx(2 * varied.equality_p_value)
    assert (same.decided, varied.decided, same.adjusted_p_value) == (True, True, None)
    many = correct_for_multiplicity([compare_pairs("a", control[:5], "b", control[:5], margin=0.5)] * 2)
    assert [pair.verdict_in_short for pair in many] == ["equal (uncorrected)"] * 2
    assert "does not survive the correction for 2 comparisons" in conclusion(many[0])


@pytest.mark.parametrize("images", [200, 250, 1000])
def test_accuracies_that_move_in_steps_are_called_equal_as_seldom_as_promised(images):
    """A true difference of the margin, seen in steps of one image, so that many studies have no spread."""
    generator, grain = np.random.default_rng(images), 100 / images
    found = []
    for spread in (0.0, 0.3, 1.0):  # in steps
        steps = 0.5 / grain + generator.normal(0, spread, (100, 5)) + generator.random((100, 5))
        seen = np.floor(steps) * grain  # on average the true difference
        found += [compare_pairs("a", row, "b", [0.0] * 5, margin=0.5, grain=grain) for row in seen]
    assert sum(pair.verdict == "equal" for pair in found) / len(found) <= 0.05
    assert any(pair.spread == "none" for pair in found)


@pytest.mark.parametrize("n", [5, 12])
def test_verdicts_are_wrong_as_seldom_as_they_promise(n):
    """At no difference at most 5 % better or worse; at a difference of the margin at most 5 % equal."""
    generator = np.random.default_rng(n)
    rows = 20_000
    for spread in (0.1, 0.5, 2.0):
        noise = generator.normal(0, spread, (rows, n))
        different = stats.ttest_1samp(noise, 0.0, axis=1).pvalue < 0.05
        equal = equal_p(noise, 0.5) < 0.05
        assert (different & ~equal).mean() <= 0.05 + 0.004
        for true in (0.5, -0.5, 0.8):
            assert (equal_p(noise + true, 0.5) < 0.05).mean() <= 0.05 + 0.004
    assert (equal_p(generator.normal(0, 0.1, (rows, n)), 0.5) < 0.05).mean() > 0.99  # and it is found


@pytest.mark.parametrize("n", [5, 12])
def test_a_study_is_wrong_as_seldom_as_its_comparisons_promise(n):
    """The same through the function that a study calls."""
    generator = np.random.default_rng(n)
    same = generator.normal(0.0, 1.5, (500, n))
    apart = generator.normal(0.5, 0.3, (500, n))
    zeros = [0.0] * n
    found = [compare_pairs("a", row, "b", zeros, margin=0.5).verdict for row in same]
    assert sum(verdict in ("better", "worse") for verdict in found) / 500 <= 0.05 + 0.025
    found = [compare_pairs("a", row, "b", zeros, margin=0.5).verdict for row in apart]
    assert found.count("equal") / 500 <= 0.05 + 0.025


def test_equality_is_corrected_like_a_difference():
    control = [90.0] * 5
    rows = [[90.1, 89.95, 90.05, 90.0, 89.9], [90.5, 89.6, 90.4, 89.7, 90.2], [95.0, 94.0, 95.5, 96.0, 95.1]]
    pairs = correct_for_multiplicity([compare_pairs("a", row, "b", control, margin=0.5) for row in rows])
    first, second, third = pairs
    assert first.adjusted_equality_p_value == pytest.approx(3 * first.equality_p_value)
    assert second.adjusted_equality_p_value == pytest.approx(2 * second.equality_p_value)
    assert [pair.verdict for pair in pairs] == ["equal", "equal", "better"]
    assert (first.decided, second.decided, third.decided) == (True, False, True)
    assert "does not survive the correction for 3 comparisons" in conclusion(second)
    assert "correction" not in conclusion(first)


def test_a_sentence_says_the_margin_and_that_a_certain_difference_may_be_too_small():
    pair = compare_pairs("a", [0.2, 0.22, 0.19], "b", [0.0] * 3, margin=0.5)
    assert conclusion(pair).startswith("a and b are equal within 0.5 points: a minus b = +0.2 points, 95 % ")
    assert conclusion(pair).endswith("certain, but too small to matter")
    open_ = compare_pairs("a", [2.0, -2.0, 1.0], "b", [0.0] * 3, margin=0.5)
    assert conclusion(open_).startswith("no evidence of a difference or of equality within 0.5 points: ")


@pytest.mark.parametrize("margin", [0.0, -1.0, float("nan"), float("inf")])
def test_a_margin_is_a_positive_number(margin):
    with pytest.raises(PursuhintError, match="margin of practical equality must be a positive number"):
        compare_pairs("a", [1.0], "b", [1.0], margin=margin)


@pytest.mark.parametrize("n", [1, 4, 7])
def test_sign_flips_try_every_choice_of_signs(n):
    values = np.random.default_rng(n).normal(0.3, 1.0, n)
    signs = np.array(list(itertools.product([1, -1], repeat=n)))
    sums = abs(signs @ values)
    assert sign_flip_p_value(values) == pytest.approx((sums >= abs(values.sum()) - 1e-9).mean(), abs=1e-12)


@pytest.mark.parametrize("n", [5, 6, 12])
def test_the_smallest_p_value_of_sign_flips(n):
    assert sign_flip_p_value([0.3] * n) == 2 / 2**n
    assert sign_flip_p_value([0.1, -0.1]) == 1.0
    assert sign_flip_p_value([0.0] * n) == 1.0


def test_sign_flips_agree_with_scipy_and_end_where_the_t_test_does_as_well():
    values = np.random.default_rng(0).normal(0.5, 1.0, 9)
    reference = stats.permutation_test(
        (values,), lambda x, axis: np.mean(x, axis=axis), permutation_type="samples", vectorized=True
    )
    assert sign_flip_p_value(values) == pytest.approx(reference.pvalue, abs=1e-12)
    assert sign_flip_p_value([0.1] * 20) == 2 / 2**20
    assert sign_flip_p_value([0.1] * 21) is None
    assert sign_flip_p_value([]) is None


def test_sign_flips_keep_their_level_where_differences_have_no_variance():
    """Student's t with 2 degrees of freedom is symmetric; the exact test needs no more."""
    rows = np.random.default_rng(3).standard_t(2, (2000, 8))
    assert np.mean([sign_flip_p_value(row) <= 0.05 for row in rows]) <= 0.05 + 0.012
