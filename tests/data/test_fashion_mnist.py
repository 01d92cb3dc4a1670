"""Fashion-MNIST and its IDX files."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from pursuhint.data import CropFlip, fashion_mnist, load_dataset
from pursuhint.data.splits import MemorySplit
from pursuhint.errors import PursuhintError


def idx(values: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, values.ndim)) + np.array(values.shape, dtype=">u4").tobytes()
    return header + values.tobytes()


@pytest.fixture(autouse=True)
def _no_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(fashion_mnist, "DEBIAN_FOLDER", tmp_path / "package")


def write(folder: Path, *, packed: bool = True) -> None:
    rng = np.random.default_rng(0)
    folder.mkdir(parents=True)
    for part, count in (("train", 12), ("t10k", 5)):
        arrays = {
            "images-idx3-ubyte": rng.integers(0, 256, (count, 28, 28), dtype=np.uint8),
            "labels-idx1-ubyte": rng.integers(0, 10, count, dtype=np.uint8),
        }
        for name, values in arrays.items():
            content = idx(values)
            path = folder / f"{part}-{name}{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(content) if packed else content)


@pytest.mark.parametrize("where", ["fashion-mnist", "FashionMNIST/raw", "package"])
def test_images_and_labels_equal_torchvisions(tmp_path: Path, where: str) -> None:
    write(tmp_path / where, packed=where != "FashionMNIST/raw")
    write(tmp_path / "theirs" / "FashionMNIST" / "raw", packed=False)
    data = load_dataset("fashion-mnist", root=tmp_path)
    for part in ("train", "test"):
        split, theirs = data.split(part), datasets.FashionMNIST(tmp_path / "theirs", train=part == "train")
        assert isinstance(split, MemorySplit)
        assert torch.equal(split.images[:, 0], theirs.data)
        assert torch.equal(split.labels, theirs.targets)
    assert data.class_names == tuple(theirs.classes)
    assert (data.num_classes, data.in_channels, data.image_size) == (10, 1, (28, 28))
    assert data.augmentation == CropFlip(padding=4, flip=True)


def test_the_constants_are_those_of_the_real_images() -> None:
    folder = Path("/usr/share/datasets/fashion-mnist")
    if not folder.is_dir():
        pytest.skip("needs the Debian package dataset-fashion-mnist")
    images, _ = fashion_mnist._read(folder, "train")
    values = images.double() / 255
    assert values.mean().item() == pytest.approx(fashion_mnist.MEAN[0], abs=1e-6)
    assert values.std().item() == pytest.approx(fashion_mnist.STD[0], abs=1e-6)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an IDX file of anyx28x28 unsigned bytes"),
        (b"GIF89a" * 10, "not an IDX file"),
        (idx(np.zeros((3, 28, 27), np.uint8)), "not an IDX file"),
        (idx(np.zeros((3, 28, 28), np.uint8))[:-1], "states 2,352 values and holds 2,351"),
        (idx(np.zeros((3, 28, 28), np.uint8)) + b"0", "states 2,352 values and holds more"),
        (gzip.compress(idx(np.zeros((3, 28, 28), np.uint8)))[:-9], "truncated or damaged"),
        (b"\x1f\x8b" + b"0" * 30, "cannot unpack .*it is truncated or damaged"),
        (bytes((0, 0, 8, 3)) + np.array((2**31, 28, 28), ">u4").tobytes(), "not an IDX file"),
    ],
    ids=["empty", "gif", "narrow", "short", "long", "cut", "no gzip", "huge"],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    write(tmp_path / "fashion-mnist")
    (tmp_path / "fashion-mnist" / "train-images-idx3-ubyte.gz").write_bytes(content)
    with pytest.raises(PursuhintError, match=message) as caught:
        load_dataset("fashion-mnist", root=tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(PursuhintError, match=r"no fashion-mnist in .*--download .*dataset-fashion-mnist"):
        load_dataset("fashion-mnist", root=tmp_path)
    write(tmp_path / "fashion-mnist")
    (tmp_path / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(PursuhintError, match=r"incomplete: no t10k-labels-idx1-ubyte\.gz"):
        load_dataset("fashion-mnist", root=tmp_path)


def test_counts_and_labels_are_checked(tmp_path: Path) -> None:
    write(tmp_path / "fashion-mnist")
    path = tmp_path / "fashion-mnist" / "train-labels-idx1-ubyte.gz"
    path.write_bytes(gzip.compress(idx(np.zeros(11, np.uint8))))
    with pytest.raises(PursuhintError, match=r"12 images, train-labels-idx1-ubyte\.gz 11 labels"):
        load_dataset("fashion-mnist", root=tmp_path)
    path.write_bytes(gzip.compress(idx(np.full(12, 10, np.uint8))))
    with pytest.raises(PursuhintError, match="sample 0 has label 10"):
        load_dataset("fashion-mnist", root=tmp_path)


def test_a_download_tries_every_mirror_and_checks_the_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def download(url: str, folder: Path, name: str, md5: str) -> None:
        asked.append(url)
        if len(asked) == 1:
            raise OSError("first mirror is away")
        (folder / name).write_bytes(content[name])

    write(tmp_path / "source")
    content = {path.name: path.read_bytes() for path in (tmp_path / "source").iterdir()}
    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    monkeypatch.setattr(datasets.FashionMNIST, "mirrors", ["https://first/", "https://second/"])
    data = load_dataset("fashion-mnist", root=tmp_path / "root", download=True)
    assert len(data.train) == 12
    assert len(asked) == 5
    assert len({url.rpartition("/")[0] for url in asked}) == 2
