"""The digits that come with scikit-learn."""

from __future__ import annotations

import hashlib

import pytest
import torch
from sklearn import datasets

from pursuhint.data import CropFlip, ImageData, load_dataset
from pursuhint.data.augment import channel_statistics
from pursuhint.data.splits import MemorySplit


@pytest.fixture(scope="module")
def digits() -> ImageData:
    return load_dataset("digits")


def memory(split: object) -> MemorySplit:
    assert isinstance(split, MemorySplit)
    return split


def test_sizes_are_those_that_everybody_expects(digits: ImageData) -> None:
    assert (len(digits.train), len(digits.test), digits.val) == (1437, 360, None)
    assert (digits.num_classes, digits.in_channels, digits.image_size) == (10, 1, (8, 8))
    assert digits.class_names == tuple("0123456789")
    assert memory(digits.train).images.shape == (1437, 1, 8, 8)


def test_every_original_image_is_there_once_with_its_label(digits: ImageData) -> None:
    original = datasets.load_digits()
    expected = sorted(
        (int(label), *(round(v * 255 / 16) for v in image.flatten()))
        for image, label in zip(original.images, original.target, strict=True)
    )
    ours = sorted(
        (int(label), *image.flatten().tolist())
        for split in (memory(digits.train), memory(digits.test))
        for image, label in zip(split.images, split.labels, strict=True)
    )
    assert ours == expected
    assert int(memory(digits.train).images.max()) == 255


def test_both_parts_have_the_same_mix_of_classes(digits: ImageData) -> None:
    share = torch.bincount(digits.test.labels) / torch.bincount(
        torch.cat([digits.train.labels, digits.test.labels])
    )
    assert (share - 360 / 1797).abs().max() < 1 / 170


def test_the_split_never_changes(digits: ImageData) -> None:
    pixels = memory(digits.test).images.numpy().tobytes() + digits.test.labels.numpy().tobytes()
    assert hashlib.sha256(pixels).hexdigest()[:16] == "88e2f286eceb4d2a"


def test_the_normalisation_is_that_of_the_training_part(digits: ImageData) -> None:
    mean, std = channel_statistics(memory(digits.train).images)
    assert digits.mean == pytest.approx(mean, abs=5e-7)
    assert digits.std == pytest.approx(std, abs=5e-7)


def test_digits_are_shifted_but_never_mirrored(digits: ImageData) -> None:
    assert digits.augmentation == CropFlip(padding=1, flip=False)


def test_a_validation_split_comes_out_of_the_training_part() -> None:
    data = load_dataset("digits", val_fraction=0.1, seed=1)
    assert data.val is not None
    assert (len(data.train), len(data.val), len(data.test)) == (1293, 144, 360)
