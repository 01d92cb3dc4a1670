"""ImageNet in folders."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets, transforms

from pursuhint.data import FileSplit, ResizedCropFlip, load_dataset, make_loader
from pursuhint.errors import PursuhintError

WNIDS = ("n01440764", "n01443537", "n15075141")


@pytest.fixture
def imagenet(tmp_path: Path, write_image: Callable[..., np.ndarray]) -> Path:
    folder = tmp_path / "imagenet"
    for number, wnid in enumerate(reversed(WNIDS)):
        for i in range(4):
            path = folder / "train" / wnid / f"{wnid}_{i}.JPEG"
            write_image(path, 60 + 10 * i, 80, mode="L" if i == 3 else "RGB", seed=number * 10 + i)
        path = folder / "val" / wnid / f"ILSVRC2012_val_0000000{number}.JPEG"
        write_image(path, 50, 40 + 30 * number, seed=number)
    return tmp_path


def test_samples_and_classes_are_those_of_torchvisions_listing(imagenet: Path) -> None:
    data = load_dataset("imagenet", root=imagenet)
    for split, part in ((data.train, "train"), (data.test, "val")):
        theirs = datasets.ImageFolder(imagenet / "imagenet" / part)
        assert isinstance(split, FileSplit)
        ours = [(str(split.path(i)), int(label)) for i, label in enumerate(split.labels)]
        assert ours == theirs.samples
        assert data.class_names == tuple(theirs.classes)
    assert (data.num_classes, data.in_channels, data.image_size) == (3, 3, (224, 224))
    assert (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert data.augmentation == ResizedCropFlip()


def test_evaluation_equals_torchvisions_recipe(imagenet: Path) -> None:
    data = load_dataset("imagenet", root=imagenet)
    recipe = transforms.Compose(
        [
            transforms.Resize(256),
            transforms.CenterCrop(224),
            transforms.ToTensor(),
            transforms.Normalize(data.mean, data.std),
        ]
    )
    (batch,) = make_loader(data, "test", batch_size=8, training=False).epoch()
    assert isinstance(data.test, FileSplit)
    photos = [Image.open(data.test.path(i)).convert("RGB") for i in range(3)]
    assert torch.equal(batch.images, torch.stack([recipe(photo) for photo in photos]))


def test_another_size_can_be_chosen(imagenet: Path) -> None:
    data = load_dataset("imagenet", root=imagenet, image_size=32, val_fraction=0.25)
    loader = make_loader(data, "train", batch_size=4, training=True)
    assert {tuple(batch.images.shape[1:]) for batch in loader.epoch(0)} == {(3, 32, 32)}
    assert data.val is not None
    assert sorted(data.val.labels.tolist()) == [0, 1, 2]


@pytest.mark.parametrize("download", [False, True])
def test_missing_data_says_where_to_get_it(tmp_path: Path, download: bool) -> None:
    with pytest.raises(PursuhintError, match=r"no imagenet in .*imagenet .*https://image-net\.org") as caught:
        load_dataset("imagenet", root=tmp_path, download=download)
    assert ("cannot be downloaded freely" in str(caught.value)) == download


def test_unsorted_validation_images_are_explained(imagenet: Path) -> None:
    for path in list((imagenet / "imagenet" / "val").glob("*/*.JPEG")):
        path.rename(imagenet / "imagenet" / "val" / path.name)
    with pytest.raises(PursuhintError, match="holds images outside of class folders; expected val/<wnid>"):
        load_dataset("imagenet", root=imagenet)


def test_a_class_that_was_not_unpacked_is_named(
    imagenet: Path, write_image: Callable[..., np.ndarray]
) -> None:
    write_image(imagenet / "imagenet" / "val" / "n02012849" / "x.JPEG")
    with pytest.raises(PursuhintError, match="val does not have the expected classes: unexpected n02012849"):
        load_dataset("imagenet", root=imagenet)
