"""Tiny ImageNet in its published layout."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import functional

from pursuhint.data import CropFlip, load_dataset
from pursuhint.data.splits import MemorySplit
from pursuhint.errors import PursuhintError

WNIDS = ("n02124075", "n01443537", "n04067472")  # as in wnids.txt: not sorted


@pytest.fixture
def tiny(tmp_path: Path, write_image: Callable[..., np.ndarray]) -> Path:
    folder = tmp_path / "tiny-imagenet-200"
    for number, wnid in enumerate(WNIDS):
        for i in range(3):
            # The data set has grey JPEG files among its colour ones.
            mode = "L" if (number, i) == (1, 2) else "RGB"
            path = folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG"
            write_image(path, 64, 64, mode=mode, seed=10 * number + i)
        boxes = "".join(f"{wnid}_{i}.JPEG\t0\t0\t63\t63\n" for i in range(3))
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(boxes)
    lines = []
    for i, wnid in enumerate((WNIDS[2], WNIDS[0], WNIDS[1], WNIDS[0])):
        write_image(folder / "val" / "images" / f"val_{i}.JPEG", 64, 64, seed=100 + i)
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    words = "n00001740\tentity\nn01443537\tgoldfish, Carassius auratus\nn02124075\tEgyptian cat\n"
    (folder / "words.txt").write_text(words)
    return tmp_path


def expected_pixels(path: Path) -> torch.Tensor:
    return functional.pil_to_tensor(Image.open(path).convert("RGB"))


def test_images_labels_and_names(tiny: Path) -> None:
    data = load_dataset("tiny-imagenet", root=tiny)
    assert isinstance(data.train, MemorySplit)
    assert isinstance(data.test, MemorySplit)
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert data.test.labels.tolist() == [2, 1, 0, 1]
    assert data.class_names == ("goldfish", "Egyptian cat", "n04067472")
    folder = tiny / "tiny-imagenet-200"
    for position, wnid in enumerate(sorted(WNIDS)):
        for i in range(3):
            path = folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG"
            assert torch.equal(data.train.images[3 * position + i], expected_pixels(path))
    for i in range(4):
        path = folder / "val" / "images" / f"val_{i}.JPEG"
        assert torch.equal(data.test.images[i], expected_pixels(path))
    assert (data.in_channels, data.image_size) == (3, (64, 64))
    assert data.augmentation == CropFlip(padding=8, flip=True)


def test_validation_images_sorted_into_class_folders_work_too(tiny: Path) -> None:
    before = load_dataset("tiny-imagenet", root=tiny).test
    val = tiny / "tiny-imagenet-200" / "val"
    for line in (val / "val_annotations.txt").read_text().splitlines():
        file, wnid = line.split("\t")[:2]
        (val / wnid).mkdir(exist_ok=True)
        shutil.move(val / "images" / file, val / wnid / file)
    (val / "images").rmdir()
    (val / "val_annotations.txt").unlink()
    after = load_dataset("tiny-imagenet", root=tiny).test
    assert isinstance(before, MemorySplit)
    assert isinstance(after, MemorySplit)
    assert after.labels.tolist() == [0, 1, 1, 2]
    assert torch.equal(after.images, before.images[torch.tensor([2, 1, 3, 0])])


def test_a_corrupt_image_is_named(tiny: Path) -> None:
    path = tiny / "tiny-imagenet-200" / "train" / WNIDS[0] / "images" / f"{WNIDS[0]}_1.JPEG"
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(PursuhintError, match=rf"cannot read the image {path}: image file is truncated"):
        load_dataset("tiny-imagenet", root=tiny)


@pytest.mark.parametrize("line", ["val_0.JPEG\tn99999999\t0\t0\t1\t1", "val_0.JPEG n02124075"])
def test_a_wrong_annotation_names_the_line(tiny: Path, line: str) -> None:
    path = tiny / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(
        PursuhintError, match=r"val_annotations\.txt, line 5: expected a file name and a class"
    ):
        load_dataset("tiny-imagenet", root=tiny)


def test_annotations_without_a_line_or_with_a_missing_file_are_explained(tiny: Path) -> None:
    path = tiny / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    (path.parent / "images" / "val_2.JPEG").unlink()
    with pytest.raises(PursuhintError, match=r"no image at .*val_2\.JPEG; the file does not exist"):
        load_dataset("tiny-imagenet", root=tiny)
    path.write_text("")
    with pytest.raises(PursuhintError, match=r"val_annotations\.txt is empty"):
        load_dataset("tiny-imagenet", root=tiny)


def test_missing_and_incomplete_data_is_explained(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(
        PursuhintError, match=r"no tiny-imagenet in .*val/val_annotations\.txt\); .*--download"
    ):
        load_dataset("tiny-imagenet", root=tmp_path / "elsewhere")
    folder = tiny / "tiny-imagenet-200"
    shutil.rmtree(folder / "train" / WNIDS[1])
    with pytest.raises(PursuhintError, match=f"train does not have the expected classes: missing {WNIDS[1]}"):
        load_dataset("tiny-imagenet", root=tiny)
    (folder / "wnids.txt").unlink()
    with pytest.raises(PursuhintError, match=r"tiny-imagenet in .* is incomplete: no wnids\.txt"):
        load_dataset("tiny-imagenet", root=tiny)
