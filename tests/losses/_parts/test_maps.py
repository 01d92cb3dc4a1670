"""Features of any kind, seen as maps of one size."""

from __future__ import annotations

import pytest
import torch

from pursuhint.errors import PursuhintError
from pursuhint.losses._parts.maps import as_maps, map_sizes, pool_to, pool_to_smaller
from pursuhint.losses.context import FeatureShape


def sizes(student, teacher):
    """Sizes measured on tensors, once they have been compared with those told from shapes alone."""
    shapes = [FeatureShape(3, student), FeatureShape(5, teacher)]
    tensors = []
    for shape in shapes:
        channels_last = len(shape.spatial) == 1
        tensors.append(
            torch.randn(2, *shape.spatial, shape.channels)
            if channels_last
            else torch.randn(2, shape.channels, *shape.spatial)
        )
    maps = as_maps(*tensors)
    assert [m.shape[1] for m in maps] == [3, 5]
    measured = tuple(tuple(m.shape[2:]) for m in maps)
    assert map_sizes(*shapes) == measured
    return measured


def test_maps_stay_as_they_are():
    student, teacher = torch.randn(2, 3, 4, 6), torch.randn(2, 5, 2, 2)
    assert all(a is b for a, b in zip(as_maps(student, teacher), (student, teacher)))
    assert sizes((4, 6), (2, 2)) == ((4, 6), (2, 2))


def test_vectors_are_maps_of_one_position():
    assert sizes((), ()) == ((1, 1), (1, 1))


def test_equally_many_tokens_are_compared_one_by_one():
    assert sizes((10,), (10,)) == ((10, 1), (10, 1))


def test_tokens_are_laid_out_row_by_row_beside_a_map():
    assert sizes((16,), (7, 7)) == ((4, 4), (7, 7))
    tokens = torch.arange(6 * 6, dtype=torch.float32).reshape(1, 36, 1)
    grid, _ = as_maps(tokens, torch.zeros(1, 1, 6, 6))
    assert grid[0, 0, 2].tolist() == [12, 13, 14, 15, 16, 17]


def test_the_class_token_is_left_out():
    assert sizes((7, 7), (197,)) == ((7, 7), (14, 14))
    tokens = torch.arange(5.0).reshape(1, 5, 1)
    grid, _ = as_maps(tokens, torch.zeros(1, 1, 2, 2))
    assert grid.flatten().tolist() == [1, 2, 3, 4]


def test_tokens_that_form_no_square_are_refused():
    with pytest.raises(PursuhintError, match=r"sequence of 12 tokens with features of size \(7, 7\)"):
        sizes((12,), (7, 7))


def test_other_features_are_refused():
    with pytest.raises(PursuhintError, match=r"found shape \(2, 3, 1, 1, 1\)"):
        as_maps(torch.randn(2, 3, 1, 1, 1), torch.randn(2, 3, 1, 1))


@pytest.mark.parametrize("swap", [False, True])
def test_the_larger_map_is_averaged_down(swap):
    large, small = torch.randn(2, 3, 5, 8), torch.randn(2, 4, 2, 4)
    pair = (small, large) if swap else (large, small)
    pooled = pool_to_smaller(*pair)[::-1] if swap else pool_to_smaller(*pair)
    assert pooled[1] is small
    # Cell i of n over m values covers floor(i m / n) to ceil((i + 1) m / n).
    torch.testing.assert_close(pooled[0][:, :, 0, 0], large[:, :, 0:3, 0:2].mean((2, 3)))
    torch.testing.assert_close(pooled[0][:, :, 1, 3], large[:, :, 2:5, 6:8].mean((2, 3)))


def test_height_and_width_are_treated_alike():
    first, second = pool_to_smaller(torch.randn(2, 3, 8, 2), torch.randn(2, 3, 4, 4))
    assert first.shape == second.shape == (2, 3, 4, 2)


def test_the_right_size_is_left_alone():
    features = torch.randn(2, 3, 4, 5)
    assert pool_to(features, (4, 5)) is features
