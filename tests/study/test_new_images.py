"""The interval for new seeds and new images against its formula, and by simulation."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pursuhint.errors import PursuhintError
from pursuhint.study import two_way_interval


def crossed(generator, *, seeds, images, stds, mean=0.4):
    """Differences with random effects of seed, image and both."""
    return (
        mean
        + generator.normal(0, stds[0], (seeds, 1))
        + generator.normal(0, stds[1], (1, images))
        + generator.normal(0, stds[2], (seeds, images))
    )


def hits(generator, *, seeds, images, lift):
    """Correct images of two arms: how hard an image is and what a seed does are shared, as in paired runs."""
    hard = generator.normal(0.8, 1.5, images)
    gains = generator.normal(lift, 0.05, (seeds, 1)) + generator.normal(0, 1.2, images)
    control = generator.normal(0, 1, (seeds, images)) < hard
    arm = generator.normal(0, 1, (seeds, images)) < hard + gains
    return 100.0 * (arm.astype(float) - control)


@pytest.mark.parametrize("seeds", [5, 12])
@pytest.mark.parametrize("stds", [(1, 10, 20), (0, 10, 20), (2, 0, 20), (0, 0, 20), (5, 1, 1)])
def test_it_covers_the_truth_of_new_seeds_and_images(seeds, stds):
    generator, covered, runs = np.random.default_rng(seeds), 0, 1500
    for _ in range(runs):
        found = two_way_interval(crossed(generator, seeds=seeds, images=60, stds=stds))
        covered += found.low <= 0.4 <= found.high
    assert covered / runs >= 0.95 - 0.015


@pytest.mark.parametrize("seeds", [5, 12])
def test_it_covers_for_hits_where_the_interval_over_seeds_does_not(seeds):
    """The truth is the mean difference over many seeds and images; 952 make a small test set."""
    generator, runs = np.random.default_rng(seeds), 300
    truth = np.mean([hits(generator, seeds=20, images=50_000, lift=0.1).mean() for _ in range(20)])
    both = alone = width = 0.0
    for _ in range(runs):
        values = hits(generator, seeds=seeds, images=952, lift=0.1)
        found = two_way_interval(values)
        over_seeds = stats.ttest_1samp(values.mean(axis=1), 0.0).confidence_interval()
        both += found.low <= truth <= found.high
        alone += over_seeds.low <= truth <= over_seeds.high
        width += (over_seeds.high - over_seeds.low) / (found.high - found.low)
    assert both / runs >= 0.95 - 0.015 - 0.01  # and the noise of 300 simulations
    if seeds == 12:
        assert alone / runs < 0.92
        assert width / runs < 0.9


def test_it_is_the_analysis_of_variance_by_hand():
    values = np.array([[3.0, 1.0, 2.0, 6.0], [2.0, 0.0, 4.0, 5.0], [7.0, 2.0, 3.0, 9.0]])
    grand = values.mean()
    of_seeds = 4 * sum((row.mean() - grand) ** 2 for row in values) / 2
    of_images = 3 * sum((column.mean() - grand) ** 2 for column in values.T) / 3
    of_rest = (((values - grand) ** 2).sum() - 2 * of_seeds - 3 * of_images) / 6
    total = of_seeds + of_images - of_rest
    freedom = total**2 / (of_seeds**2 / 2 + of_images**2 / 3 + of_rest**2 / 6)
    found = two_way_interval(values, confidence=0.9)
    assert found.error == pytest.approx((total / 12) ** 0.5)
    assert found.freedom == pytest.approx(freedom)
    assert found.high - grand == pytest.approx(stats.t.ppf(0.95, freedom) * found.error)
    assert found.high - grand > stats.t.ppf(0.95, 2) * stats.sem(values.mean(axis=1))
    assert found.seed_std**2 == pytest.approx((of_seeds - of_rest) / 4)
    assert found.image_std**2 == pytest.approx((of_images - of_rest) / 3)
    assert (found.residual_std**2, found.images) == (pytest.approx(of_rest), 4)


@pytest.mark.parametrize("stds", [(1, 1, 3), (5, 1, 1)])
def test_it_is_never_narrower_than_over_seeds_alone(stds):
    generator = np.random.default_rng(1)
    for _ in range(50):
        values = crossed(generator, seeds=4, images=30, stds=stds)
        found, over_seeds = two_way_interval(values), stats.ttest_1samp(values.mean(axis=1), 0.0)
        interval = over_seeds.confidence_interval()
        assert found.error >= stats.sem(values.mean(axis=1)) - 1e-12
        assert found.low <= interval.low + 1e-9
        assert found.high >= interval.high - 1e-9


@pytest.mark.parametrize("values", [np.ones((2, 9)), np.ones((5, 1)), np.full((5, 9), 3.0)])
def test_none_where_nothing_can_be_said(values):
    assert two_way_interval(values) is None


@pytest.mark.parametrize("values", [np.ones(3), np.full((3, 3), np.nan)])
def test_refuses_what_is_no_matrix(values):
    with pytest.raises(PursuhintError, match="finite matrix of seeds x images"):
        two_way_interval(values)
