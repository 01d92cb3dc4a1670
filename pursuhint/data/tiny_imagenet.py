"""Tiny ImageNet, from its folder of JPEG files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from pursuhint._util.input_files import read_text
from pursuhint.data.augment import CropFlip
from pursuhint.data.decode import decode_all
from pursuhint.data.image_data import ImageData
from pursuhint.data.image_files import list_images
from pursuhint.data.sources import ensure_downloaded, require_files
from pursuhint.data.splits import FileSplit, MemorySplit
from pursuhint.errors import PursuhintError

__all__ = ["load_tiny_imagenet"]

FOLDER = "tiny-imagenet-200"
URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
MD5 = "90528d7ca1a48142e341f4ef8d21d0de"
ANNOTATIONS = "val_annotations.txt"
SIDE = 64
LARGEST_LIST = 16 << 20  # bytes; the list of words has 2.6 MB


def load_tiny_imagenet(root: Path, *, download: bool = False) -> ImageData:
    """Load Tiny ImageNet: 100,000 training and 10,000 test images, RGB, 64x64, 200 classes.

    Reads ``root/tiny-imagenet-200`` with ``wnids.txt``, ``words.txt``, ``train/<wnid>/images/`` and ``val/``
    (either as published, ``val/images/`` with ``val_annotations.txt``, or sorted into ``val/<wnid>/``). The
    published test images have no labels, so the official validation images are the test split. Classes are
    numbered in the sorted order of their WordNet ids. All images are decoded into memory (1.4 GB).
    Augmentation: crop after 8 pixels of padding, flip. The standard deviation is the constant of the
    reference training code, with which published checkpoints were trained: the mean over single images.

    Reference: Y. Le and X. Yang, Tiny ImageNet Visual Recognition Challenge, Stanford CS 231N, 2015.

    Raises:
        PursuhintError: missing, incomplete or damaged files, or a download that failed.
    """
    folder = root / FOLDER
    ensure_downloaded(
        "tiny-imagenet",
        folder,
        f"wnids.txt, words.txt, train/<class>/images/ and val/{ANNOTATIONS}",
        download=download,
        source=lambda: (URL, MD5),
    )
    require_files("tiny-imagenet", folder, ("wnids.txt", "words.txt"))
    classes = tuple(sorted(read_text(folder / "wnids.txt", "list of classes", largest=LARGEST_LIST).split()))
    train = list_images(folder / "train", classes)
    if (folder / "val" / ANNOTATIONS).is_file():
        test = _annotated(folder / "val", classes)
    else:
        test = list_images(folder / "val", classes)
    return ImageData(
        name="tiny-imagenet",
        num_classes=len(classes),
        in_channels=3,
        image_size=(SIDE, SIDE),
        mean=(0.4802, 0.4481, 0.3975),
        std=(0.2302, 0.2265, 0.2262),
        class_names=_names(folder / "words.txt", classes),
        train=_decoded(train),
        test=_decoded(test),
        augmentation=CropFlip(padding=SIDE // 8, flip=True),
    )


def _decoded(split: FileSplit) -> MemorySplit:
    return MemorySplit(decode_all(split, 3, (SIDE, SIDE)), split.labels, split.indices, split)


def _annotated(folder: Path, classes: tuple[str, ...]) -> FileSplit:
    """Read ``val/images`` with ``val_annotations.txt``: file, class and bounding box per line."""
    label_of = {name: label for label, name in enumerate(classes)}
    paths, labels = [], []
    lines = read_text(folder / ANNOTATIONS, "list of labels", largest=LARGEST_LIST).splitlines()
    for number, line in enumerate(lines, 1):
        match line.split("\t"):
            case [file, wnid, *_] if wnid in label_of:
                paths.append(f"images/{file}")
                labels.append(label_of[wnid])
            case _:
                raise PursuhintError(
                    f"{folder / ANNOTATIONS}, line {number}: expected a file name and a class of wnids.txt, "
                    f"got {line[:60]!r}"
                )
    if not paths:
        raise PursuhintError(f"{folder / ANNOTATIONS} is empty; expected a line for each image")
    return FileSplit.whole(folder, np.array(paths), torch.tensor(labels))


def _names(path: Path, classes: tuple[str, ...]) -> tuple[str, ...]:
    """First synonym of each class in ``words.txt`` (WordNet id, tab, synonyms), else the id."""
    lines = read_text(path, "list of words", largest=LARGEST_LIST).splitlines()
    words = dict(line.split("\t", 1) for line in lines if "\t" in line)
    return tuple(words.get(wnid, wnid).split(",")[0].strip() for wnid in classes)
