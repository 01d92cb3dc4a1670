"""Images brought by the user."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pursuhint.data import CropFlip, ImageData, make_loader
from pursuhint.data.splits import MemorySplit
from pursuhint.errors import PursuhintError

IMAGES = torch.randint(0, 256, (20, 3, 6, 5), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
LABELS = torch.arange(20) % 4


def make(
    train: tuple[Any, Any] = (IMAGES, LABELS), test: tuple[Any, Any] = (IMAGES, LABELS), **options: Any
) -> ImageData:
    return ImageData.from_tensors("mine", train=train, test=test, **options)


def test_what_is_known_about_the_images_is_found_out() -> None:
    data = make()
    assert (data.name, data.num_classes, data.in_channels, data.image_size) == ("mine", 4, 3, (6, 5))
    assert data.class_names == ("0", "1", "2", "3")
    assert data.val is None
    assert data.augmentation == CropFlip(padding=0, flip=False)
    torch.testing.assert_close(torch.tensor(data.mean), (IMAGES.float() / 255).mean((0, 2, 3)))


def test_a_training_epoch_is_standardised() -> None:
    (batch,) = make_loader(make(), "train", batch_size=20, training=False).epoch()
    torch.testing.assert_close(batch.images.mean((0, 2, 3)), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(batch.images.std((0, 2, 3), correction=0), torch.ones(3))


def test_floats_of_any_scale_are_taken_as_they_are() -> None:
    images = torch.randn(20, 1, 6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 100
    data = make((images, LABELS), (images, LABELS), mean=(1.0,), std=(2.0,))
    assert isinstance(data.train, MemorySplit)
    assert data.train.images.dtype == torch.float32
    (batch,) = make_loader(data, "train", batch_size=20, training=False).epoch()
    assert torch.equal(batch.images, (images.float() - 1) / 2)


def test_arrays_and_lists_will_do() -> None:
    data = make((IMAGES.numpy(), LABELS.tolist()), (IMAGES.numpy(), np.asarray(LABELS, dtype=np.int32)))
    assert torch.equal(data.train.labels, LABELS)
    assert data.test.labels.dtype == torch.int64


def test_own_names_constants_augmentation_and_validation() -> None:
    data = make(
        class_names=("a", "b", "c", "d", "e"),
        mean=(0.1, 0.2, 0.3),
        augmentation=CropFlip(padding=1, flip=True),
        val_fraction=0.25,
        seed=2,
    )
    assert (data.num_classes, data.mean) == (5, (0.1, 0.2, 0.3))
    assert data.augmentation == CropFlip(padding=1, flip=True)
    assert data.val is not None
    assert torch.bincount(data.val.labels).tolist() in ([1, 1, 1, 2], [2, 1, 1, 1])


NAN = IMAGES.float().index_fill(0, torch.tensor([7]), float("nan"))
INFINITE = IMAGES.float().index_fill(0, torch.tensor([3, 4]), float("inf"))


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ((NAN, LABELS), "mine, train split: 1 images hold NaN or infinity, the first is sample 7"),
        ((INFINITE, LABELS), "mine, train split: 2 images hold NaN or infinity, the first is sample 3"),
        ((IMAGES[:, 0], LABELS), r"must have shape \(samples, .* got \(20, 6, 5\); images.unsqueeze\(1\)"),
        ((IMAGES[0, 0], LABELS), r"must have shape .* got \(6, 5\)$"),
        ((IMAGES, LABELS[:-1]), r"20 images but labels of shape \(19,\)"),
        ((IMAGES, LABELS[:, None]), r"20 images but labels of shape \(20, 1\)"),
        ((IMAGES.int(), LABELS), "images must be uint8 or floating point, got torch.int32"),
        ((IMAGES, LABELS.float()), "labels must be integers, got torch.float32"),
        ((IMAGES, LABELS > 1), "labels must be integers, got torch.bool"),
        ((IMAGES, LABELS - 1), "train split: sample 0 has label -1, expected 0 to 2"),
        ((IMAGES[:0], LABELS[:0]), "hold no pixel"),
        ((IMAGES.float(), LABELS), "training images are torch.float32, test images torch.uint8"),
        ((IMAGES[..., :-1], LABELS), r"training images have shape \(3, 6, 4\), test images \(3, 6, 5\)"),
    ],
)
def test_wrong_training_data_is_explained(train: tuple[Any, Any], message: str) -> None:
    with pytest.raises(PursuhintError, match=message):
        make(train)


def test_a_test_label_that_training_does_not_have_is_refused() -> None:
    with pytest.raises(PursuhintError, match=r"mine, test split: sample 0 has label 4, expected 0 to 3"):
        make(test=(IMAGES, LABELS + 4))
    assert make(test=(IMAGES, LABELS + 4), num_classes=8).num_classes == 8


def test_a_nan_in_the_test_images_is_found_too() -> None:
    with pytest.raises(PursuhintError, match="mine, test split: 1 images hold NaN"):
        make((IMAGES.float(), LABELS), (NAN, LABELS))


def _images(count: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, 3, 8, 8)).astype(np.uint8)


def _data(images: Any, labels: Any, **options: Any) -> ImageData:
    return ImageData.from_tensors("mine", train=(images, labels), test=(images, labels), **options)


def test_channels_last_is_refused_and_not_guessed() -> None:
    with pytest.raises(
        PursuhintError, match=r"\(6, 8, 8, 3\) have their channels last, .*transpose\(0, 3, 1, 2\)"
    ):
        _data(_images().transpose(0, 2, 3, 1), [0, 1] * 3)
    assert _data(_images(), [0, 1] * 3).in_channels == 3


@pytest.mark.parametrize("labels", [[1, 2, 3] * 2, [10, 20, 30] * 2, [0, 2, 0, 2, 0, 2]])
def test_labels_that_skip_classes_are_asked_about(labels: list[int]) -> None:
    with pytest.raises(PursuhintError, match=r"the training labels are .*, expected 0 to \d; number them so"):
        _data(_images(), labels)
    assert _data(_images(), labels, num_classes=31).num_classes == 31


def test_arrays_of_any_byte_order_and_stride() -> None:
    images, labels = _images(), np.array([0, 1, 2, 0, 1, 2])
    data = _data(images[::-1, :, ::-1], labels[::-1].astype(">i8"))
    assert isinstance(data.train, MemorySplit)
    assert torch.equal(data.train.images, torch.from_numpy(images[::-1, :, ::-1].copy()))
    assert data.train.labels.tolist() == [2, 1, 0, 2, 1, 0]


@pytest.mark.parametrize("labels", [["a", "b"] * 3, np.array(["a", "b"] * 3, dtype=object)])
def test_text_labels_say_how_to_number_them(labels: Any) -> None:
    with pytest.raises(PursuhintError, match=r"labels must be numbers, .* class_names=names"):
        _data(_images(), labels)


def test_lists_of_pictures_and_arrays_of_objects() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 7, 3), dtype=np.uint8)
    labels = np.arange(6) % 3
    for given in (pixels, pixels[..., 0]):
        pictures = [Image.fromarray(picture) for picture in given]
        split = (pictures, labels.astype(object))
        data = ImageData.from_tensors("x", train=split, test=split)
        expected = given[:, None] if given.ndim == 3 else given.transpose(0, 3, 1, 2)
        assert isinstance(data.train, MemorySplit)
        assert np.array_equal(data.train.images.numpy(), expected)
        assert data.train.labels.tolist() == labels.tolist()
    uneven = [Image.new("RGB", (4, 4 + side)) for side in range(6)]
    with pytest.raises(PursuhintError, match="images have uneven shapes"):
        ImageData.from_tensors("x", train=(uneven, labels), test=(uneven, labels))


def test_one_number_is_the_constant_of_all_channels() -> None:
    split = (np.zeros((4, 3, 5, 5), dtype=np.uint8), [0, 1, 0, 1])
    assert ImageData.from_tensors("x", train=split, test=split, mean=0.5, std=0.25).std == (0.25,) * 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train": np.zeros((4, 3, 5, 5))}, "train must be .images, labels., got a ndarray"),
        ({"test": "photos"}, "test must be .images, labels., got a str"),
        ({"mean": ["grey"] * 3}, "mean must be a number, or one a channel"),
        ({"num_classes": "2"}, "num_classes must be a whole number"),
        ({"class_names": "ab"}, "class_names must be a list of names"),
    ],
)
def test_other_arguments_than_expected_are_one_line(change: dict[str, Any], message: str) -> None:
    split = (np.zeros((4, 3, 5, 5), dtype=np.uint8), [0, 1, 0, 1])
    with pytest.raises(PursuhintError, match=message):
        ImageData.from_tensors("x", **{"train": split, "test": split, **change})
