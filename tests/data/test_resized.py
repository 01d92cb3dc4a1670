"""Data sets at another size than their own."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms.v2 import functional as F

from pursuhint.data import load_dataset
from pursuhint.errors import PursuhintError


def test_enlarged_digits_are_torchvisions_resize_of_the_same_samples():
    small, large = load_dataset("digits"), load_dataset("digits", image_size=32, val_fraction=0.1)
    assert large.image_size == (32, 32)
    assert (large.mean, large.std) == (small.mean, small.std)
    assert large.augmentation.padding == 4 * small.augmentation.padding
    assert large.train.images.dtype == torch.uint8
    index = int(large.train.indices[100])
    expected = F.resize(small.train.images[index : index + 1], [32, 32], antialias=True)[0]
    assert torch.equal(large.train.images[100], expected)
    assert large.val is not None
    assert large.val.images.shape[1:] == (1, 32, 32)


def test_own_size_changes_nothing():
    data = load_dataset("digits")
    assert data.resized(8) is data


def test_size_below_one_is_refused():
    with pytest.raises(PursuhintError, match="image_size must be at least 1 pixel, got 0"):
        load_dataset("digits", image_size=0)
