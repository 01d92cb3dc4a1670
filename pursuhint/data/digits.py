"""Handwritten digits: 1,797 real 8x8 images that come with scikit-learn."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import torch

from pursuhint.data.augment import CropFlip
from pursuhint.data.image_data import ImageData
from pursuhint.data.splits import MemorySplit, hold_out

__all__ = ["load_digits"]

TEST_SAMPLES = 360
MEAN = (0.304751,)  # of the training split; a test recomputes both constants
STD = (0.375704,)


def load_digits(root: Path | None = None, *, download: bool = False) -> ImageData:
    """Load the digits: 1,437 for training, 360 for testing, grey, 8x8, 10 classes. Nothing to download.

    The values 0..16 become uint8 0..255. The split is fixed and stratified. Mean and standard deviation are
    computed on the training split. Augmentation shifts by up to one pixel and does not flip.

    Reference: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning
    Repository, 1998, https://doi.org/10.24432/C50P49 (its test part, as packaged by scikit-learn).

    Args:
        root: ignored; accepted so that all data set loaders share one signature.
        download: ignored.
    """
    images, labels = map(torch.from_numpy, _read())
    train, test = hold_out(labels, TEST_SAMPLES, seed=0)
    return ImageData(
        name="digits",
        num_classes=10,
        in_channels=1,
        image_size=(8, 8),
        mean=MEAN,
        std=STD,
        class_names=tuple("0123456789"),
        train=MemorySplit.whole(images[train], labels[train]),
        test=MemorySplit.whole(images[test], labels[test]),
        augmentation=CropFlip(padding=1, flip=False),
    )


@functools.cache
def _read() -> tuple[np.ndarray, np.ndarray]:
    """Images, shape (1797, 1, 8, 8), and labels. They are a table of text, which takes longest to read."""
    from sklearn import datasets

    digits = datasets.load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    return images[:, None], digits.target.astype(np.int64)
