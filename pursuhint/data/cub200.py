"""Caltech-UCSD Birds 200 (2011), from its lists and folder of JPEG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pursuhint._util.input_files import read_text
from pursuhint.data.augment import ResizedCropFlip
from pursuhint.data.image_data import ImageData
from pursuhint.data.preprocessing import IMAGENET, ImageSize, height_and_width
from pursuhint.data.sources import ensure_downloaded, require_files
from pursuhint.data.splits import FileSplit
from pursuhint.errors import PursuhintError

__all__ = ["load_cub200"]

FOLDER = "CUB_200_2011"
URL = "https://data.caltech.edu/records/65de6-vp158/files/CUB_200_2011.tgz"
MD5 = "97eceeb196236b17998738112f37df78"
LISTS = ("classes.txt", "images.txt", "image_class_labels.txt", "train_test_split.txt")
LARGEST_LIST = 4 << 20  # bytes; the longest has 0.8 MB


def load_cub200(root: Path, *, download: bool = False, image_size: ImageSize = 224) -> ImageData:
    """Load CUB-200-2011: 5,994 training and 5,794 test photographs of birds, RGB, 200 classes.

    Reads ``root/CUB_200_2011`` with ``classes.txt``, ``images.txt``, ``image_class_labels.txt``,
    ``train_test_split.txt`` and ``images/``. Classes keep the order of ``classes.txt`` (1 becomes label 0),
    on which the splits of cross-task distillation rely; their names lose the number ("001."). Photographs
    are used whole, without the bounding boxes. Preprocessing as for ``imagenet``.

    Reference: C. Wah, S. Branson, P. Welinder, P. Perona and S. Belongie, The Caltech-UCSD Birds-200-2011
    Dataset, California Institute of Technology, CNS-TR-2011-001.

    Args:
        root: the folder that holds ``CUB_200_2011``.
        download: download it (1.1 GB) if it is missing.
        image_size: height and width in pixels of the network's input, or one number for squares.

    Raises:
        PursuhintError: missing, incomplete or contradictory lists, or a download that failed.
    """
    folder = root / FOLDER
    ensure_downloaded(
        "cub200", folder, f"{', '.join(LISTS)} and images/", download=download, source=lambda: (URL, MD5)
    )
    require_files("cub200", folder, LISTS)
    classes = _table(folder / "classes.txt")
    files = _table(folder / "images.txt")
    labels = _table(folder / "image_class_labels.txt")
    training = _table(folder / "train_test_split.txt")
    number_of = {key: number for number, key in enumerate(classes)}
    for name, table in (("image_class_labels.txt", labels), ("train_test_split.txt", training)):
        if table.keys() != files.keys():
            odd = sorted(table.keys() ^ files.keys())[0]
            raise PursuhintError(f"{folder / name} and images.txt differ: image {odd} is in one of them only")
    for image, label in labels.items():
        if label not in number_of:
            raise PursuhintError(
                f"{folder / 'image_class_labels.txt'}: image {image} has class {label[:20]!r}, which "
                "classes.txt does not list"
            )
        if training[image] not in ("0", "1"):
            raise PursuhintError(
                f"{folder / 'train_test_split.txt'}: image {image} has {training[image][:20]!r}, expected 1 "
                "for training or 0 for testing"
            )

    def split(flag: str) -> FileSplit:
        chosen = [image for image in files if training[image] == flag]
        paths = [_inside(folder / "images.txt", files[image]) for image in chosen]
        numbers = torch.tensor([number_of[labels[image]] for image in chosen], dtype=torch.int64)
        return FileSplit.whole(folder / "images", np.array(paths), numbers)

    return ImageData(
        name="cub200",
        num_classes=len(classes),
        in_channels=3,
        image_size=height_and_width(image_size),
        mean=IMAGENET.mean,
        std=IMAGENET.std,
        class_names=tuple(name.partition(".")[2].replace("_", " ") or name for name in classes.values()),
        train=split("1"),
        test=split("0"),
        augmentation=ResizedCropFlip(),
        fitted=True,
        normalization_source=IMAGENET.source,
    )


def _table(path: Path) -> dict[str, str]:
    """A list of lines ``NUMBER VALUE`` as a mapping, in the order of the file."""
    rows: dict[str, str] = {}
    for number, line in enumerate(read_text(path, "list", largest=LARGEST_LIST).splitlines(), 1):
        key, _, value = line.strip().partition(" ")
        if not key.isdecimal() or not value or key in rows:
            what = "a number that was not listed before and its value"
            raise PursuhintError(f"{path}, line {number}: expected {what}, got {line[:60]!r}")
        rows[key] = value
    if not rows:
        raise PursuhintError(f"{path} is empty")
    return rows


def _inside(path: Path, file: str) -> str:
    """A relative path below ``images``; a received list must not name files elsewhere."""
    if Path(file).is_absolute() or ".." in Path(file).parts:
        raise PursuhintError(f"{path} names {file[:60]!r}, which is not below images/")
    return file
