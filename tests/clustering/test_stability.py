"""How often the same layers are chosen."""

from __future__ import annotations

import pytest
import torch

from pursuhint._util.text import percent
from pursuhint.clustering.segments import segments
from pursuhint.clustering.stability import SelectionStability, selection_stability
from pursuhint.errors import PursuhintError
from tests.helpers.layer_groups import in_groups


def ends(similarity):
    """The last layer of each of two segments."""
    clustering = segments(similarity, 2)
    return [clustering.members(0)[-1], clustering.members(1)[-1]]


def stack(*sizes):
    return torch.stack([in_groups(*parts).float() for parts in sizes])


def test_counts_choices():
    halves = stack((2, 3), (2, 3), (2, 3), (3, 2))
    stability = selection_stability(ends, ends(in_groups(2, 3)), stack((2, 3), (4, 1)), halves)
    assert stability.chosen == (1, 4)
    assert stability.frequency == (0, 0.75, 0.25, 0, 1)
    assert stability.together == 0.75
    assert stability.left_out_frequency == (0, 0.5, 0, 0.5, 1)
    assert stability.left_out_together == 0.5
    assert (stability.halves, stability.parts) == (4, 2)


def test_a_layer_without_variance_in_a_half_is_not_chosen_there():
    halves = stack((2, 3), (2, 3), (2, 3))
    halves[0, 1, :] = halves[0, :, 1] = torch.nan
    halves[1, 1:, :] = halves[1, :, 1:] = torch.nan
    stability = selection_stability(ends, ends(in_groups(2, 3)), stack((2, 3)), halves)
    assert stability.frequency == pytest.approx((1 / 3, 1 / 3, 0, 0, 2 / 3))
    assert stability.together == pytest.approx(1 / 3)


def test_in_words():
    stability = SelectionStability(
        (2, 7, 12), (0.0,) * 2 + (0.97,) + (0.94,) * 10, 0.94, (0.0,) * 13, 0.9, 100, 10
    )
    assert stability.sentence(range(1, 14)) == (
        "stability under resampling of images: positions 3, 8, 13 were chosen in 94 % of 100 half-samples, "
        "and 9 of 10 times with one of 10 parts of the images left out; "
        "one by one: 3 in 97 %, 8 in 94 %, 13 in 94 % of the half-samples"
    )
    sure = SelectionStability((2,), (0.0, 0.0, 1.0), 1.0, (0.0,) * 3, 1.0, 100, 10)
    assert sure.sentence(range(1, 4)) == (
        "stability under resampling of images: positions 3 were chosen in 100 % of 100 half-samples, and 10 "
        "of 10 times with one of 10 parts of the images left out"
    )


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (0.001, "1 %"), (0.5, "50 %"), (0.996, "99 %"), (1, "100 %")],
)
def test_percent_is_never_all_or_nothing_by_rounding(share, text):
    assert percent(share) == text


def test_nothing_resampled():
    with pytest.raises(PursuhintError, match="stability needs at least one half"):
        selection_stability(ends, ends(in_groups(2, 3)), stack((2, 3)), stack((2, 3))[:0])
