"""Loaders: what an epoch is, and what it must not depend on."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pursuhint.data import (
    Batch,
    CropFlip,
    ImageData,
    Loader,
    ResizedCropFlip,
    load_folder,
    make_loader,
    sample_indices,
)
from pursuhint.data.decode import fit, read_image, to_tensor
from pursuhint.data.splits import FileSplit, MemorySplit
from pursuhint.errors import PursuhintError

# Newer Pythons warn of fork() beside the threads of a test run; DataLoader forks its workers.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")

COUNT = 53


@pytest.fixture
def memory_data() -> ImageData:
    """53 random images in memory, with crop, flip and a validation split of 10."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (COUNT + 10, 3, 8, 8), generator=generator, dtype=torch.uint8)
    labels = torch.arange(COUNT + 10) % 5
    return ImageData.from_tensors(
        "noise",
        train=(images, labels),
        test=(images[:COUNT], labels[:COUNT]),
        augmentation=CropFlip(padding=2, flip=True),
        val_fraction=10 / (COUNT + 10),
    )


@pytest.fixture
def file_data(tmp_path: Path, write_image: Callable[..., np.ndarray]) -> ImageData:
    """53 training images of mixed sizes in files, streamed, and a validation split of 10."""
    for part, count in (("train", COUNT + 10), ("val", 6)):
        for i in range(count):
            path = tmp_path / "stream" / part / f"class{i % 3}" / f"{i}.png"
            write_image(path, 12 + i % 7, 10 + i % 5, seed=i)
    data = load_folder(tmp_path / "stream", image_size=8, memory_limit=0)
    assert isinstance(data.train, FileSplit)
    return data.with_validation(10 / (COUNT + 10))


@pytest.fixture(params=["memory_data", "file_data"])
def data(request: pytest.FixtureRequest) -> ImageData:
    return request.getfixturevalue(request.param)


def joined(batches: Iterator[Batch] | list[Batch]) -> Batch:
    batches = list(batches)
    return Batch(
        torch.cat([batch.images for batch in batches]),
        torch.cat([batch.labels for batch in batches]),
        torch.cat([batch.indices for batch in batches]),
    )


def same(first: Batch, second: Batch) -> bool:
    return (
        torch.equal(first.images, second.images)
        and torch.equal(first.labels, second.labels)
        and torch.equal(first.indices, second.indices)
    )


def train_loader(data: ImageData, **options: Any) -> Loader:
    return make_loader(data, "train", **{"batch_size": 16, "training": True, **options})


def test_a_training_epoch_holds_every_sample_once_in_batches(data: ImageData) -> None:
    loader = train_loader(data)
    batches = list(loader.epoch(0))
    assert [len(batch) for batch in batches] == [16, 16, 16, 5]
    assert (len(loader), loader.num_samples) == (4, COUNT)
    epoch = joined(batches)
    assert epoch.images.dtype == torch.float32
    assert epoch.images.shape == (COUNT, 3, 8, 8)
    assert epoch.labels.dtype == epoch.indices.dtype == torch.int64
    assert torch.equal(epoch.indices.sort().values, data.train.indices)
    place = torch.searchsorted(data.train.indices, epoch.indices)
    assert torch.equal(epoch.labels, data.train.labels[place])


def test_epochs_and_seeds_differ(data: ImageData) -> None:
    loader = train_loader(data)
    first = joined(loader.epoch(0))
    assert not torch.equal(first.indices, joined(loader.epoch(1)).indices)
    assert not torch.equal(first.indices, joined(train_loader(data, seed=1).epoch(0)).indices)


def test_an_epoch_does_not_depend_on_what_was_iterated_before(data: ImageData) -> None:
    loader = train_loader(data)
    expected = joined(loader.epoch(3))
    for number in (0, 1):
        list(loader.epoch(number))
    next(loader.epoch(2))  # abandoned after one batch
    assert same(joined(loader.epoch(3)), expected)
    assert same(joined(train_loader(data).epoch(3)), expected)


def test_augmentation_differs_between_epochs_but_not_between_batch_sizes(data: ImageData) -> None:
    def images_by_index(batch: Batch) -> torch.Tensor:
        return batch.images[batch.indices.argsort()]

    first = images_by_index(joined(train_loader(data).epoch(0)))
    assert torch.equal(first, images_by_index(joined(train_loader(data, batch_size=7).epoch(0))))
    second = images_by_index(joined(train_loader(data).epoch(1)))
    changed = (first != second).flatten(1).any(1)
    assert changed.float().mean() > 0.8


def test_the_order_depends_neither_on_augmentation_nor_on_the_batch_size(data: ImageData) -> None:
    expected = joined(train_loader(data).epoch(2)).indices
    assert torch.equal(joined(train_loader(data, augment=False).epoch(2)).indices, expected)
    assert torch.equal(joined(train_loader(data, batch_size=10).epoch(2)).indices, expected)


def test_the_global_random_generators_are_neither_read_nor_changed(data: ImageData) -> None:
    torch.manual_seed(0)
    expected = joined(train_loader(data).epoch(0))
    torch.manual_seed(123)
    numpy_global = np.random.mtrand._rand  # what np.random.rand and its like draw from
    numpy_global.seed(123)
    random.seed(123)
    before = torch.get_rng_state(), numpy_global.get_state(), random.getstate()
    assert same(joined(train_loader(data).epoch(0)), expected)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert str(numpy_global.get_state()) == str(before[1])
    assert random.getstate() == before[2]


@pytest.mark.parametrize("split", ["val", "test"])
def test_evaluation_keeps_order_and_pixels(data: ImageData, split: str) -> None:
    loader = make_loader(data, split, batch_size=4, training=False)
    epoch = joined(loader.epoch())
    part = data.split(split)
    assert torch.equal(epoch.indices, part.indices)
    assert torch.equal(epoch.labels, part.labels)
    assert same(epoch, joined(loader.epoch(5)))
    pixels = (
        part.images
        if isinstance(part, MemorySplit)
        else torch.stack([to_tensor(fit(read_image(part.path(i), 3), (8, 8))) for i in range(len(part))])
    )
    mean, std = torch.tensor(data.mean)[:, None, None], torch.tensor(data.std)[:, None, None]
    assert torch.equal(epoch.images, (pixels / 255 - mean) / std)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shards", [2, 3, 5])
@pytest.mark.parametrize("batch_size", [16, 7, 13])
def test_shards_together_are_the_batches_of_one_process(
    memory_data: ImageData, training: bool, shards: int, batch_size: int
) -> None:
    options = {"batch_size": batch_size, "training": training}
    whole = list(train_loader(memory_data, **options).epoch(1))
    loaders = [train_loader(memory_data, **options, shard=(i, shards)) for i in range(shards)]
    parts = [list(loader.epoch(1)) for loader in loaders]
    dropped = training and COUNT % batch_size < shards and COUNT % batch_size > 0
    for step, batch in enumerate(whole[:-1] if dropped else whole):
        present = [part[step] for part in parts if step < len(part)]
        assert same(joined(present), batch)
        sizes = [len(part) for part in present]
        assert max(sizes) - min(sizes) <= 1
    assert [len(part) for part in parts] == [len(loader) for loader in loaders]
    assert {loader.num_samples for loader in loaders} == {COUNT - (COUNT % batch_size if dropped else 0)}
    if training:
        assert len({len(loader) for loader in loaders}) == 1
    else:
        assert sum(len(batch) for part in parts for batch in part) == COUNT


def test_a_last_training_batch_that_not_every_process_could_share_is_left_out(memory_data: ImageData) -> None:
    # 53 = 3 * 17 + 2: two samples for three processes.
    loader = train_loader(memory_data, batch_size=17, shard=(2, 3))
    assert (len(loader), loader.num_samples) == (3, 51)
    evaluation = make_loader(memory_data, "train", batch_size=17, training=False, shard=(2, 3))
    assert (len(evaluation), evaluation.num_samples) == (3, 53)


def test_file_shards_decode_their_part(file_data: ImageData) -> None:
    whole = list(train_loader(file_data).epoch(0))
    parts = [list(train_loader(file_data, shard=(i, 2)).epoch(0)) for i in range(2)]
    for step, batch in enumerate(whole):
        assert same(joined([part[step] for part in parts]), batch)


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_do_not_change_the_batches(file_data: ImageData, workers: int) -> None:
    one, many = train_loader(file_data), train_loader(file_data, workers=workers)
    for number in (0, 1):
        assert same(joined(many.epoch(number)), joined(one.epoch(number)))
    next(many.epoch(5))
    assert same(joined(many.epoch(2)), joined(one.epoch(2)))


@pytest.mark.parametrize("workers", [0, 1])
def test_two_epochs_of_one_file_loader_cannot_be_mixed(file_data: ImageData, workers: int) -> None:
    loader = train_loader(file_data, workers=workers)
    first, second = loader.epoch(0), loader.epoch(1)
    next(first)
    begun = [next(second)]
    with pytest.raises(RuntimeError, match="another epoch of this loader was begun"):
        next(first)
    assert same(joined([*begun, *second]), joined(train_loader(file_data).epoch(1)))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_file_that_is_damaged_later_is_named_on_one_line(file_data: ImageData, workers: int) -> None:
    assert isinstance(file_data.train, FileSplit)
    victim = file_data.train.path(20)
    victim.write_bytes(victim.read_bytes()[:100])
    one_line = rf"^cannot read the image {re.escape(str(victim))}: .*; replace or remove the file\Z"
    with pytest.raises(PursuhintError, match=one_line):
        list(train_loader(file_data, workers=workers).epoch(0))


def test_a_subset_is_named_by_indices_and_keeps_its_order(data: ImageData) -> None:
    chosen = sample_indices(data, 20, seed=1).flip(0)
    loader = make_loader(data, "train", batch_size=8, training=False, subset=chosen)
    assert (len(loader), loader.num_samples) == (3, 20)
    epoch = joined(loader.epoch())
    assert torch.equal(epoch.indices, chosen)
    everything = joined(make_loader(data, "train", batch_size=64, training=False).epoch())
    place = torch.searchsorted(everything.indices, chosen)
    assert torch.equal(epoch.images, everything.images[place])
    shuffled = joined(train_loader(data, subset=chosen).epoch(0))
    assert torch.equal(shuffled.indices.sort().values, chosen.sort().values)


def test_a_sample_is_augmented_alike_in_a_subset(data: ImageData) -> None:
    everything = joined(train_loader(data).epoch(4))
    part = joined(train_loader(data, subset=sample_indices(data, 9)).epoch(4))
    for index, image in zip(part.indices, part.images, strict=True):
        assert torch.equal(image, everything.images[everything.indices == index][0])


def test_a_held_out_sample_is_not_part_of_a_training_subset(data: ImageData) -> None:
    assert data.val is not None
    held_out = int(data.val.indices[0])
    with pytest.raises(
        PursuhintError, match=rf"1 samples that the split .* train does not have, .* {held_out}$"
    ):
        train_loader(data, subset=torch.stack([data.train.indices[0], data.val.indices[0]]))


@pytest.mark.parametrize(
    "subset", [torch.tensor([0.0]), torch.tensor([[0]]), torch.tensor([True]), torch.tensor([])]
)
def test_a_subset_must_be_a_list_of_indices(memory_data: ImageData, subset: torch.Tensor) -> None:
    with pytest.raises(PursuhintError, match="subset must be a list of sample indices, got torch"):
        train_loader(memory_data, subset=subset)


def test_drop_last_leaves_out_the_smaller_batch(data: ImageData) -> None:
    loader = train_loader(data, drop_last=True)
    assert [len(batch) for batch in loader.epoch(0)] == [16, 16, 16]
    assert (len(loader), loader.num_samples) == (3, 48)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"workers": -1}, "workers must be at least 0, got -1"),
        ({"shard": (2, 2)}, r"shard must be \(which, of how many\) .* got \(2, 2\)"),
        ({"shard": (0, 17)}, "batch_size 16 cannot be shared by 17 processes"),
        (
            {"batch_size": 54, "drop_last": True},
            "drop_last leaves no batch of 54: noise train has 53 samples",
        ),
        ({"subset": torch.arange(2), "shard": (0, 3)}, "2 samples are too few to train on with 3 processes"),
    ],
)
def test_impossible_loaders_are_refused(
    memory_data: ImageData, options: dict[str, Any], message: str
) -> None:
    data = replace(memory_data, val=None)
    if "subset" in options:
        options["subset"] = data.train.indices[options["subset"]]
    with pytest.raises(PursuhintError, match=message):
        train_loader(data, **options)


def test_augmentation_and_shuffling_can_be_chosen_apart(memory_data: ImageData) -> None:
    plain = joined(make_loader(memory_data, "train", batch_size=16, training=False).epoch(0))
    augmented = joined(
        make_loader(memory_data, "train", batch_size=16, training=False, augment=True).epoch(0)
    )
    assert torch.equal(plain.indices, augmented.indices)
    assert not torch.equal(plain.images, augmented.images)
    training = joined(train_loader(memory_data).epoch(0))
    assert torch.equal(augmented.images, training.images[training.indices.argsort()])


@pytest.mark.parametrize("name", ["memory_data", "file_data"])
def test_alternate_flips_mirror_an_image_in_every_other_epoch(name: str, request: Any) -> None:
    given = request.getfixturevalue(name)
    square = replace(given, augmentation=CropFlip(flip=True))
    if name == "file_data":  # a crop of everything, so that the flip is all that changes
        square = replace(given, augmentation=ResizedCropFlip(scale=(0.0, 0.0)))

    def epochs(**options: Any) -> list[torch.Tensor]:
        loader = train_loader(square, **options)
        found = [joined(loader.epoch(number)) for number in range(4)]
        return [batch.images[batch.indices.argsort()] for batch in found]

    zeroth, first, second, third = epochs(flip="alternate")
    assert torch.equal(second, zeroth)
    assert torch.equal(third, first)
    mirrored = epochs(flip="alternate", seed=1)[0].ne(zeroth).flatten(1).any(1)
    assert 0.25 < mirrored.float().mean() < 0.75  # drawn for each image
    assert torch.equal(first, zeroth.flip(-1))
    drawn = epochs()
    assert not torch.equal(drawn[1], drawn[0].flip(-1))  # control
    assert not torch.equal(drawn[2], drawn[0])


@pytest.mark.parametrize(
    ("augmentation", "names", "message"),
    [
        pytest.param(CropFlip(padding=2), True, "of noise mirrors none; leave it", id="never mirrored"),
        pytest.param(CropFlip(flip=True), ["cutout"], "which is left out", id="not augmented"),
    ],
)
def test_alternate_flips_need_flips(
    memory_data: ImageData, augmentation: CropFlip, names: Any, message: str
) -> None:
    data = replace(memory_data, augmentation=augmentation)
    with pytest.raises(PursuhintError, match=message):
        train_loader(data, augment=names, flip="alternate")
    train_loader(data, augment=names)


def test_all_loaders_on_a_device_share_one_copy(memory_data: ImageData) -> None:
    assert isinstance(memory_data.train, MemorySplit)
    assert memory_data.train.on("cpu") is memory_data.train
    copy = memory_data.train.on("meta")
    assert copy is memory_data.train.on(torch.device("meta"))
    assert copy.images.device.type == "meta"


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_on_a_gpu_are_those_of_the_cpu(data: ImageData) -> None:
    on_cpu, on_gpu = joined(train_loader(data).epoch(1)), joined(train_loader(data, device="cuda").epoch(1))
    assert on_gpu.images.is_cuda
    assert torch.equal(on_gpu.indices.cpu(), on_cpu.indices)
    torch.testing.assert_close(on_gpu.images.cpu(), on_cpu.images)
