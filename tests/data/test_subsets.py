"""Fewer classes, fewer training images."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest
import torch

from pursuhint.data import ImageData, load_dataset
from pursuhint.data.class_list import parse_classes
from pursuhint.data.subsets import with_classes, with_train_samples
from pursuhint.errors import PursuhintError


def made(counts: tuple[int, ...]) -> ImageData:
    """One pixel an image, whose value is the image's number; labels take turns while a class lasts."""
    labels = torch.cat([torch.full((count,), label) for label, count in enumerate(counts)])
    labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    images = torch.arange(len(labels), dtype=torch.float32).reshape(-1, 1, 1, 1)
    return ImageData.from_tensors(
        "made", train=(images, labels), test=(images, labels), num_classes=len(counts)
    )


@pytest.mark.parametrize(
    ("text", "classes"),
    [("0-3", (0, 1, 2, 3)), ("7", (7,)), ("3, 1,5-6", (3, 1, 5, 6)), ("2-2", (2,))],
)
def test_classes_are_numbers_and_ranges(text: str, classes: tuple[int, ...]) -> None:
    assert parse_classes(text) == classes


@pytest.mark.parametrize("text", ["", "cat", "1-", "-1", "5-2", "1,1", "0-3,2", "0-99999999999", "1.5"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(PursuhintError):
        parse_classes(text)


def test_labels_follow_the_order_of_the_list_and_names_their_classes() -> None:
    digits = load_dataset("digits", val_fraction=0.2)
    few = with_classes(digits, (7, 2, 5))
    assert few.class_names == ("7", "2", "5")
    assert few.num_classes == 3
    for role, split in few.splits.items():
        whole = digits.split(role)
        kept = torch.isin(whole.labels, torch.tensor([7, 2, 5]))
        assert torch.equal(split.images, whole.images[kept])
        assert [int(few.class_names[label]) for label in split.labels] == whole.labels[kept].tolist()
    assert few.val is not None
    numbers = torch.cat([few.train.indices, few.val.indices])
    assert torch.equal(numbers, torch.arange(few.num_samples))
    assert (few.mean, few.std) == (digits.mean, digits.std)


@pytest.mark.parametrize("classes", [(0,), (0, 10), (0, 0), (-1, 2), ()])
def test_wrong_classes_are_refused(classes: tuple[int, ...]) -> None:
    with pytest.raises(PursuhintError, match=r"digits"):
        with_classes(load_dataset("digits"), classes)


@pytest.mark.parametrize(
    ("count", "shares"), [(3, [1, 1, 1]), (8, [3, 2, 3]), (10, [4, 2, 4]), (22, [10, 2, 10])]
)
def test_classes_give_equal_shares_as_far_as_they_go(count: int, shares: list[int]) -> None:
    data = with_train_samples(made((30, 2, 40)), count)
    assert len(data.train) == count
    assert torch.bincount(data.train.labels).tolist() == shares
    assert torch.equal(data.train.indices, torch.arange(count))
    assert len(data.test) == 72


def test_the_subset_depends_on_the_seed_alone_and_grows_with_its_size() -> None:
    data = made((30, 20, 40))
    pixels = [
        set(with_train_samples(data, count).train.images.flatten().tolist()) for count in (9, 30, 60, 90)
    ]
    assert all(small < large for small, large in pairwise(pixels))
    again = with_train_samples(data, 9).train.images.flatten().tolist()
    assert set(again) == pixels[0]
    other = with_train_samples(data, 9, seed=1).train.images.flatten().tolist()
    assert set(other) != pixels[0]


@pytest.mark.parametrize("count", [-1, 0, 2, 91])
def test_too_few_or_too_many_samples_are_refused(count: int) -> None:
    with pytest.raises(PursuhintError, match="90 training images of 3 classes"):
        with_train_samples(made((30, 20, 40)), count)


def test_files_are_left_unread(image_folder: Path) -> None:
    data = load_dataset(f"folder:{image_folder}", classes=(2, 0), train_samples=4)
    assert data.class_names == ("cat", "ant")
    assert torch.bincount(data.train.labels).tolist() == [2, 2]
