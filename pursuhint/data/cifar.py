"""CIFAR-10 and CIFAR-100, from the files that their authors publish."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pursuhint._util import inert_pickle
from pursuhint._util.input_files import read_bounded, read_text
from pursuhint._util.pickled_arrays import array_of, is_array, is_array_name
from pursuhint.data.augment import CropFlip
from pursuhint.data.image_data import ImageData
from pursuhint.data.sources import ensure_downloaded, require_files
from pursuhint.data.splits import MemorySplit, check_labels
from pursuhint.errors import PursuhintError

__all__ = ["load_cifar10", "load_cifar100"]

SIDE = 32
PIXELS = 3 * SIDE * SIDE


@dataclass(frozen=True)
class _Layout:
    """File names, keys and constants of one data set, in both published formats."""

    name: str
    num_classes: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    python_folder: str
    python_train: tuple[str, ...]
    python_test: str
    python_names: tuple[str, str]  # file and key of the class names
    python_labels: str
    binary_folder: str
    binary_train: tuple[str, ...]
    binary_test: str
    binary_names: str
    binary_label_bytes: int  # bytes before the pixels; the last of them is the label


_CIFAR10 = _Layout(
    name="cifar10",
    num_classes=10,
    # Standard deviation over all pixels of the training set. The widely copied (0.2023, 0.1994, 0.2010) is
    # the mean of the standard deviations of single images.
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2470, 0.2435, 0.2616),
    python_folder="cifar-10-batches-py",
    python_train=tuple(f"data_batch_{i}" for i in range(1, 6)),
    python_test="test_batch",
    python_names=("batches.meta", "label_names"),
    python_labels="labels",
    binary_folder="cifar-10-batches-bin",
    binary_train=tuple(f"data_batch_{i}.bin" for i in range(1, 6)),
    binary_test="test_batch.bin",
    binary_names="batches.meta.txt",
    binary_label_bytes=1,
)

_CIFAR100 = _Layout(
    name="cifar100",
    num_classes=100,
    # Constants of the reference training code, with which the published checkpoints were trained.
    mean=(0.5071, 0.4867, 0.4408),
    std=(0.2675, 0.2565, 0.2761),
    python_folder="cifar-100-python",
    python_train=("train",),
    python_test="test",
    python_names=("meta", "fine_label_names"),
    python_labels="fine_labels",
    binary_folder="cifar-100-binary",
    binary_train=("train.bin",),
    binary_test="test.bin",
    binary_names="fine_label_names.txt",
    binary_label_bytes=2,
)


def load_cifar10(root: Path, *, download: bool = False) -> ImageData:
    """Load CIFAR-10: 50,000 training and 10,000 test images, RGB, 32x32, 10 classes.

    Reads ``root/cifar-10-batches-py`` (see :func:`read_pickle`) or ``root/cifar-10-batches-bin``.
    Augmentation: crop after 4 pixels of padding, flip.

    Reference: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009,
    https://www.cs.toronto.edu/~kriz/cifar.html.

    Raises:
        PursuhintError: missing, incomplete or damaged files, or a download that failed.
    """
    return _load(_CIFAR10, root, download)


def load_cifar100(root: Path, *, download: bool = False) -> ImageData:
    """Load CIFAR-100 with its 100 fine labels: 50,000 training and 10,000 test images, RGB, 32x32.

    Reads ``root/cifar-100-python`` (see :func:`read_pickle`) or ``root/cifar-100-binary``. Augmentation:
    crop after 4 pixels of padding, flip. Reference: as for :func:`load_cifar10`.

    Raises:
        PursuhintError: missing, incomplete or damaged files, or a download that failed.
    """
    return _load(_CIFAR100, root, download)


def _load(layout: _Layout, root: Path, download: bool) -> ImageData:
    python, binary = root / layout.python_folder, root / layout.binary_folder
    files = (*layout.python_train, layout.python_test, layout.python_names[0])
    if not binary.is_dir():
        ensure_downloaded(
            layout.name,
            python,
            f"the files {', '.join(files)}",
            download=download,
            source=lambda: _source(layout),
        )
    if python.is_dir():
        require_files(layout.name, python, files)
        parts = [_read_python(python / file, layout) for file in layout.python_train]
        test = _read_python(python / layout.python_test, layout)
        names = _python_names(python / layout.python_names[0], layout)
    else:
        require_files(layout.name, binary, (*layout.binary_train, layout.binary_test, layout.binary_names))
        parts = [_read_binary(binary / file, layout) for file in layout.binary_train]
        test = _read_binary(binary / layout.binary_test, layout)
        names = _binary_names(binary / layout.binary_names, layout)
    return ImageData(
        name=layout.name,
        num_classes=layout.num_classes,
        in_channels=3,
        image_size=(SIDE, SIDE),
        mean=layout.mean,
        std=layout.std,
        class_names=names,
        train=MemorySplit.whole(
            torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])
        ),
        test=MemorySplit.whole(*test),
        augmentation=CropFlip(padding=4, flip=True),
    )


def _source(layout: _Layout) -> tuple[str, str]:
    from torchvision.datasets import CIFAR10, CIFAR100

    source = CIFAR10 if layout is _CIFAR10 else CIFAR100
    return source.url, source.tgz_md5


LARGEST_FILE = 512 << 20  # bytes; the training file of CIFAR-100 has 155 MB


def read_pickle(path: Path) -> dict[str, Any]:
    """Read one of CIFAR's pickled dictionaries without running code that it may carry.

    A pickle is a program that can call any function it imports by name. `pursuhint._util.inert_pickle` runs
    it without importing or calling anything; the names of a NumPy array become records, every other name is
    refused. :func:`load_cifar10` builds the array after checking type, shape and size. The files were written
    by Python 2: text is read as bytes, and keys are decoded.

    Args:
        path: for example ``cifar-10-batches-py/data_batch_1``.

    Returns:
        The dictionary.

    Raises:
        PursuhintError: the file is unreadable, truncated, not a dictionary, or imports any other name.
    """
    program = read_bounded(path, "file of CIFAR", largest=LARGEST_FILE)
    try:
        content = inert_pickle.read_pickle(io.BytesIO(program), size=len(program), accepts=is_array_name)
    except inert_pickle.RefusedPickle as error:
        name = ascii(error.args[0])[1:-1][:80]
        raise PursuhintError(
            f"{path} asks to run {name}, which no CIFAR file does; nothing was run, do not trust this file"
        ) from None
    except inert_pickle.DamagedPickle as error:
        raise PursuhintError(f"cannot read {path}: {str(error)[:160]}; it is truncated or damaged") from error
    if not isinstance(content, dict):
        raise PursuhintError(
            f"cannot read {path}: it holds a {type(content).__name__}, expected a dictionary"
        )
    return {_text(key): value for key, value in content.items()}


def _text(value: Any) -> str:
    return value.decode("utf-8", errors="replace") if isinstance(value, bytes) else str(value)


def _read_python(path: Path, layout: _Layout) -> tuple[Tensor, Tensor]:
    content = read_pickle(path)
    data, labels = content.get("data"), content.get(layout.python_labels)
    if data is None or not is_array(data) or not isinstance(labels, list):
        raise PursuhintError(f"{path} is not a batch of {layout.name}: no data or no {layout.python_labels}")
    try:
        pixels = _pixels(array_of(data))
    except ValueError as error:
        raise PursuhintError(f"cannot read {path}: {error}") from error
    if len(labels) != len(pixels) or not all(type(label) is int for label in labels):
        raise PursuhintError(
            f"{path}: {len(pixels)} images need as many whole-number labels, got {len(labels)}"
        )
    for position, label in enumerate(labels):  # before they are put into 64 bits
        if not 0 <= label < layout.num_classes:
            raise PursuhintError(
                f"{path}: sample {position} has label {label}, expected 0 to {layout.num_classes - 1} "
                f"({layout.num_classes} classes)"
            )
    return _images_and_labels(pixels, np.array(labels), path, layout)


def _pixels(array: np.ndarray) -> np.ndarray:
    """Check that an array holds images as a CIFAR batch does: uint8, shape (samples, 3072).

    Raises:
        ValueError: another type or shape.
    """
    if array.dtype != np.uint8:
        raise ValueError(f"pixels of type {array.dtype}, expected u1 (bytes)")
    if array.ndim != 2 or array.shape[1] != PIXELS or len(array) < 1:
        raise ValueError(f"pixels of shape {array.shape}, expected rows of {PIXELS}")
    return array


def _read_binary(path: Path, layout: _Layout) -> tuple[Tensor, Tensor]:
    raw = np.fromfile(path, dtype=np.uint8)
    record = layout.binary_label_bytes + PIXELS
    if raw.size == 0 or raw.size % record:
        raise PursuhintError(
            f"cannot read {path}: {raw.size} bytes, expected a multiple of {record}; "
            "it is truncated or damaged"
        )
    records = raw.reshape(-1, record)
    pixels, labels = records[:, layout.binary_label_bytes :], records[:, layout.binary_label_bytes - 1]
    return _images_and_labels(pixels, labels, path, layout)


def _images_and_labels(
    pixels: np.ndarray, labels: np.ndarray, path: Path, layout: _Layout
) -> tuple[Tensor, Tensor]:
    numbers = torch.from_numpy(labels.astype(np.int64))
    check_labels(numbers, layout.num_classes, str(path))
    return torch.from_numpy(pixels.reshape(-1, 3, SIDE, SIDE).copy()), numbers


def _python_names(path: Path, layout: _Layout) -> tuple[str, ...]:
    names = read_pickle(path).get(layout.python_names[1])
    return _checked_names(path, names if isinstance(names, list) else [], layout)


def _binary_names(path: Path, layout: _Layout) -> tuple[str, ...]:
    return _checked_names(path, read_text(path, "list of class names", largest=1 << 20).split(), layout)


def _checked_names(path: Path, names: list[Any], layout: _Layout) -> tuple[str, ...]:
    if len(names) != layout.num_classes:
        raise PursuhintError(f"{path} names {len(names)} classes, expected {layout.num_classes}")
    return tuple(map(_text, names))
