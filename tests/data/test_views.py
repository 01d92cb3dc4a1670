"""A second view of every image: drawn by seed, epoch and sample alone, in memory and from files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pursuhint.data import Batch, CropFlip, ImageData, ResizedCropFlip, load_folder, make_loader
from pursuhint.data.input_data import InputData
from pursuhint.errors import PursuhintError

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

COUNT = 23


@pytest.fixture
def memory_data() -> ImageData:
    images = torch.randint(
        0, 256, (COUNT, 3, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    labels = torch.arange(COUNT) % 3
    return ImageData.from_tensors(
        "noise", train=(images, labels), test=(images, labels), augmentation=CropFlip(2, True)
    )


@pytest.fixture
def file_data(tmp_path: Path, write_image: Callable[..., np.ndarray]) -> ImageData:
    """Files that are read in every epoch, with crops of random sizes."""
    for part, count in (("train", COUNT), ("val", 3)):
        for i in range(count):
            write_image(tmp_path / part / f"class{i % 3}" / f"{i}.png", 12 + i % 7, 10 + i % 5, seed=i)
    return replace(load_folder(tmp_path, image_size=8, memory_limit=0), augmentation=ResizedCropFlip())


@pytest.fixture(params=["memory_data", "file_data"])
def data(request: pytest.FixtureRequest) -> ImageData:
    return request.getfixturevalue(request.param)


def batches(data: ImageData, *second: str, epoch: int = 1, start: int = 0, **options: Any) -> list[Batch]:
    options = {"batch_size": 8, "training": True, "second_view": second} | options
    return list(make_loader(data, "train", **options).epoch(epoch, start))


def pictures(found: list[Batch]) -> torch.Tensor:
    """The second view, in the order of the samples."""
    order = torch.cat([batch.indices for batch in found]).argsort()
    return torch.cat([batch.second_view for batch in found])[order]


def test_the_first_view_is_as_without_a_second(data: ImageData) -> None:
    without, with_ = batches(data), batches(data, "standard", "randaugment")
    for one, two in zip(without, with_, strict=True):
        assert one.second_view is None
        assert torch.equal(one.images, two.images)
        assert torch.equal(one.indices, two.indices)
        assert two.second_view is not None
        assert two.second_view.shape == two.images.shape
        assert two.second_view.dtype == torch.float32


def test_the_second_view_has_draws_of_its_own(data: ImageData) -> None:
    for batch in batches(data, "standard"):
        assert batch.second_view is not None
        same = (batch.second_view == batch.images).flatten(1).all(1)
        assert not same.all()
    plain = torch.cat([batch.images for batch in batches(data, training=False)])
    cut = pictures(batches(data, "cutout"))
    assert (cut != plain).flatten(1).any(1).all()
    assert torch.equal(cut[cut != 0], plain[cut != 0])  # not cropped, as the first view is


def test_it_depends_on_seed_epoch_and_sample_alone(data: ImageData) -> None:
    names = ("standard", "randaugment", "cutout")
    whole = pictures(batches(data, *names))
    assert torch.equal(pictures(batches(data, *names, batch_size=5)), whole)
    shards = [batches(data, *names, shard=(rank, 2)) for rank in range(2)]
    assert torch.equal(pictures([*shards[0], *shards[1]]), whole)
    late, early = batches(data, *names, start=2), batches(data, *names)[2:]
    assert torch.equal(pictures(late), pictures(early))
    assert not torch.equal(pictures(batches(data, *names, seed=1)), whole)
    assert not torch.equal(pictures(batches(data, *names, epoch=2)), whole)


def test_workers_do_not_change_it(file_data: ImageData) -> None:
    alone, beside = (
        pictures(batches(file_data, "standard", "randaugment", workers=count)) for count in (0, 2)
    )
    assert torch.equal(alone, beside)


def test_images_that_are_no_bytes_have_one() -> None:
    floats, labels = torch.rand(6, 3, 8, 8), torch.arange(6) % 2
    own = ImageData.from_tensors("floats", train=(floats, labels), test=(floats, labels))
    found = batches(own, "cutout", augment=(), batch_size=6)[0]
    assert found.second_view is not None
    kept = found.second_view.ne(0)
    assert torch.equal(found.second_view[kept], found.images[kept])
    assert not torch.equal(found.second_view, found.images)
    with pytest.raises(PursuhintError, match=r"'randaugment' is defined for images in 0\.\.255"):
        batches(own, "randaugment", augment=())


def test_what_has_no_second_view_is_refused(memory_data: ImageData) -> None:
    for options, second in (({"augment": ("mixup",)}, "cutout"), ({}, "cutmix")):
        with pytest.raises(PursuhintError, match="makes one image of two, and a second view shows one"):
            batches(memory_data, second, **options)
    with pytest.raises(PursuhintError, match="no augmentation named 'randaugmnet'; did you mean"):
        batches(memory_data, "randaugmnet")
    signals, labels = torch.randn(6, 5), torch.arange(6) % 2
    inputs = InputData.from_tensors("signals", train=(signals, labels), test=(signals, labels))
    with pytest.raises(PursuhintError, match="are no images"):
        make_loader(inputs, "train", batch_size=2, training=True, second_view=("cutout",))
