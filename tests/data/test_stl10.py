"""STL-10 in its binary format."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from pursuhint.data import CropFlip, load_dataset
from pursuhint.data.splits import MemorySplit
from pursuhint.errors import PursuhintError

NAMES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")


@pytest.fixture
def stl10(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "stl10_binary"
    folder.mkdir()
    for part, count in (("train", 7), ("test", 4)):
        rng.integers(0, 256, (count, 3, 96, 96), dtype=np.uint8).tofile(folder / f"{part}_X.bin")
        rng.integers(1, 11, count, dtype=np.uint8).tofile(folder / f"{part}_y.bin")
    (folder / "class_names.txt").write_text("\n".join(NAMES) + "\n")
    return tmp_path


def test_images_and_labels_equal_torchvisions(stl10: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.STL10, "_check_integrity", lambda self: True)
    data = load_dataset("stl10", root=stl10)
    for part in ("train", "test"):
        split, theirs = data.split(part), datasets.STL10(stl10, split=part)
        assert isinstance(split, MemorySplit)
        assert torch.equal(split.images, torch.from_numpy(np.ascontiguousarray(theirs.data)))
        assert split.labels.tolist() == theirs.labels.tolist()
    assert (data.num_classes, data.in_channels, data.image_size) == (10, 3, (96, 96))
    assert data.class_names == NAMES
    assert data.augmentation == CropFlip(padding=12, flip=True)


def test_the_row_runs_fastest_in_the_file(stl10: Path) -> None:
    path = stl10 / "stl10_binary" / "train_X.bin"
    raw = np.zeros((7, 3, 96, 96), dtype=np.uint8)
    raw[0, 1, 5, 9] = 200  # green, column 5, row 9
    raw.tofile(path)
    split = load_dataset("stl10", root=stl10).train
    assert isinstance(split, MemorySplit)
    assert split.images.nonzero().tolist() == [[0, 1, 9, 5]]


@pytest.mark.parametrize("length", [0, 7 * 27648 - 1])
def test_a_truncated_file_is_explained(stl10: Path, length: int) -> None:
    path = stl10 / "stl10_binary" / "train_X.bin"
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(PursuhintError, match=rf"train_X.bin: {length} bytes, expected a multiple of 27648"):
        load_dataset("stl10", root=stl10)


def test_other_numbers_of_images_and_labels_are_explained(stl10: Path) -> None:
    (stl10 / "stl10_binary" / "test_y.bin").write_bytes(bytes([1, 2, 3]))
    with pytest.raises(PursuhintError, match=r"test_X\.bin holds 4 images, test_y\.bin 3 labels"):
        load_dataset("stl10", root=stl10)


@pytest.mark.parametrize("label", [0, 11])
def test_labels_out_of_range_are_explained(stl10: Path, label: int) -> None:
    (stl10 / "stl10_binary" / "test_y.bin").write_bytes(bytes([1, 10, label, 3]))
    with pytest.raises(PursuhintError, match=rf"test_y\.bin: sample 2 has label {label}, expected 1 to 10"):
        load_dataset("stl10", root=stl10)


def test_missing_and_incomplete_data_is_explained(stl10: Path, tmp_path: Path) -> None:
    with pytest.raises(
        PursuhintError, match=r"no stl10 in .*elsewhere.*train_X\.bin, train_y\.bin.*--download"
    ):
        load_dataset("stl10", root=tmp_path / "elsewhere")
    (stl10 / "stl10_binary" / "test_y.bin").unlink()
    with pytest.raises(PursuhintError, match=r"stl10 in .* is incomplete: no test_y\.bin"):
        load_dataset("stl10", root=stl10)
