"""Fashion-MNIST, from its IDX files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from pursuhint._util.atomic_files import make_folder
from pursuhint.data.augment import CropFlip
from pursuhint.data.idx import read_idx
from pursuhint.data.image_data import ImageData
from pursuhint.data.sources import missing
from pursuhint.data.splits import MemorySplit, check_labels
from pursuhint.errors import PursuhintError

__all__ = ["load_fashion_mnist"]

SIDE = 28
CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
MEAN = (0.286041,)  # of the training split
STD = (0.353024,)
FOLDERS = ("fashion-mnist", "FashionMNIST/raw")
"""Folders below the root: ours, and torchvision's."""

DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
"""Folder of the Debian package ``dataset-fashion-mnist``, which holds all 70,000 images."""

_FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}


def load_fashion_mnist(root: Path, *, download: bool = False) -> ImageData:
    """Load Fashion-MNIST: 60,000 training and 10,000 test images of clothes, grey, 28x28, 10 classes.

    Reads the four IDX files (packed by gzip or not) of ``root/fashion-mnist``, of ``root/FashionMNIST/raw``
    where torchvision keeps them, or of the Debian package ``dataset-fashion-mnist``, whichever comes first.
    Augmentation: crop after 4 pixels of padding, flip (clothes have no left and right), as in Zhong et al.,
    Random Erasing Data Augmentation, AAAI 2020.

    Reference: H. Xiao, K. Rasul and R. Vollgraf, Fashion-MNIST: a Novel Image Dataset for Benchmarking
    Machine Learning Algorithms, 2017, https://arxiv.org/abs/1708.07747 (MIT licence).

    Args:
        root: the folder that holds ``fashion-mnist``.
        download: download the files (31 MB) if no folder holds them.

    Raises:
        PursuhintError: missing, incomplete or damaged files, or a download that failed.
    """
    folder = _folder(root, download)
    train, test = (_read(folder, part) for part in ("train", "test"))
    return ImageData(
        name="fashion-mnist",
        num_classes=len(CLASSES),
        in_channels=1,
        image_size=(SIDE, SIDE),
        mean=MEAN,
        std=STD,
        class_names=CLASSES,
        train=MemorySplit.whole(*train),
        test=MemorySplit.whole(*test),
        augmentation=CropFlip(padding=4, flip=True),
    )


def _folder(root: Path, download: bool) -> Path:
    folders = [root / name for name in FOLDERS] + [DEBIAN_FOLDER]
    for folder in folders:
        if folder.is_dir() and not (download and folder == folders[0]):
            return folder
    if download:
        return _download(folders[0])
    raise missing(
        "fashion-mnist",
        folders[0],
        ", ".join(f"{name}.gz" for names in _FILES.values() for name in names),
        remedy="fetch it with --download (download=True), install Debian's package dataset-fashion-mnist",
    )


def _download(folder: Path) -> Path:
    """Download the missing ones of the four files from torchvision's mirrors; check all MD5 sums."""
    from torchvision.datasets import FashionMNIST
    from torchvision.datasets.utils import download_url

    make_folder(folder)
    for name, md5 in FashionMNIST.resources:
        problems = []
        for mirror in FashionMNIST.mirrors:
            try:
                download_url(f"{mirror}{name}", folder, name, md5)
                break
            except (OSError, RuntimeError) as error:
                problems.append(f"{mirror}{name}: {error}")
        else:
            raise PursuhintError(f"cannot download fashion-mnist: {'; '.join(problems)}")
    return folder


def _read(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    images_path, labels_path = (_file(folder, name) for name in _FILES[part])
    images = read_idx(images_path, (None, SIDE, SIDE))
    labels = torch.from_numpy(read_idx(labels_path, (None,)).astype("int64"))
    if len(labels) != len(images):
        raise PursuhintError(
            f"{images_path} holds {len(images)} images, {labels_path.name} {len(labels)} labels"
        )
    check_labels(labels, len(CLASSES), str(labels_path))
    return torch.from_numpy(images.copy()).unsqueeze(1), labels


def _file(folder: Path, name: str) -> Path:
    for path in (folder / f"{name}.gz", folder / name):
        if path.is_file():
            return path
    raise PursuhintError(
        f"fashion-mnist in {folder} is incomplete: no {name}.gz; remove the folder and get it again"
    )
