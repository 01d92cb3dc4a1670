"""STL-10, from its binary files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pursuhint._util.input_files import read_text
from pursuhint.data.augment import CropFlip
from pursuhint.data.image_data import ImageData
from pursuhint.data.sources import ensure_downloaded, require_files
from pursuhint.data.splits import MemorySplit, check_labels
from pursuhint.errors import PursuhintError

__all__ = ["load_stl10"]

FOLDER = "stl10_binary"
FILES = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin", "class_names.txt")
NUM_CLASSES = 10
SIDE = 96


def load_stl10(root: Path, *, download: bool = False) -> ImageData:
    """Load the labelled part of STL-10: 5,000 training and 8,000 test images, RGB, 96x96, 10 classes.

    Reads ``root/stl10_binary``. Augmentation: crop after 12 pixels of padding (one eighth of the side, as
    usual for CIFAR), flip.

    Reference: A. Coates, H. Lee and A. Y. Ng, An Analysis of Single-Layer Networks in Unsupervised Feature
    Learning, AISTATS 2011, https://cs.stanford.edu/~acoates/stl10/.

    Args:
        root: the folder that holds ``stl10_binary``.
        download: download it (2.6 GB, with the unlabelled images) if it is missing.

    Raises:
        PursuhintError: missing, incomplete or damaged files, or a download that failed.
    """
    folder = root / FOLDER
    ensure_downloaded("stl10", folder, f"the files {', '.join(FILES)}", download=download, source=_source)
    require_files("stl10", folder, FILES)
    names = tuple(read_text(folder / "class_names.txt", "list of class names", largest=1 << 20).split())
    return ImageData(
        name="stl10",
        num_classes=NUM_CLASSES,
        in_channels=3,
        image_size=(SIDE, SIDE),
        mean=(0.4467, 0.4398, 0.4066),
        std=(0.2603, 0.2566, 0.2713),
        class_names=names,
        train=MemorySplit.whole(*_read(folder / "train_X.bin", folder / "train_y.bin")),
        test=MemorySplit.whole(*_read(folder / "test_X.bin", folder / "test_y.bin")),
        augmentation=CropFlip(padding=12, flip=True),
    )


def _source() -> tuple[str, str]:
    from torchvision.datasets import STL10

    return STL10.url, STL10.tgz_md5


def _read(images_path: Path, labels_path: Path) -> tuple[Tensor, Tensor]:
    raw = np.fromfile(images_path, dtype=np.uint8)
    image_bytes = 3 * SIDE * SIDE
    if raw.size == 0 or raw.size % image_bytes:
        raise PursuhintError(
            f"cannot read {images_path}: {raw.size} bytes, expected a multiple of {image_bytes}; "
            "it is truncated or damaged"
        )
    # The file is column-major: the row index varies fastest.
    images = raw.reshape(-1, 3, SIDE, SIDE).transpose(0, 1, 3, 2)
    labels = torch.from_numpy(np.fromfile(labels_path, dtype=np.uint8).astype(np.int64))
    if len(labels) != len(images):
        raise PursuhintError(
            f"{images_path} holds {len(images)} images, {labels_path.name} {len(labels)} labels"
        )
    check_labels(labels, NUM_CLASSES, str(labels_path), first=1)
    return torch.from_numpy(np.ascontiguousarray(images)), labels - 1
