"""Small folders of images on the disk, and what may happen to them between two runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
from PIL import Image


def write_folder(root: Path, classes: tuple[str, ...] = ("ant", "bee", "cat"), count: int = 6) -> Path:
    """Bright, middling and dark noise: ``count`` training images a class, half as many for evaluation."""
    rng = np.random.default_rng(0)
    for part, number in (("train", count), ("val", max(count // 2, 1))):
        for level, name in enumerate(sorted(classes)):
            folder = root / part / name
            folder.mkdir(parents=True)
            for index in range(number):
                pixels = 60 * level + rng.integers(0, 60, (8, 8, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{index}.png")
    return root


def move_image(root: Path) -> None:
    """From one class to another."""
    (root / "train/ant/1.png").rename(root / "train/cat/one.png")


def delete_image(root: Path) -> None:
    (root / "train/ant/1.png").unlink()


def rename_image(root: Path) -> None:
    """So that all samples stay in their order."""
    (root / "train/ant/1.png").rename(root / "train/ant/1a.png")


def change_image(root: Path) -> None:
    """One pixel, and not the size of the file."""
    path = root / "train/ant/1.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[0, 0, 0] ^= 1
    Image.fromarray(pixels).save(path)


def rename_class(root: Path) -> None:
    """So that the classes stay in their order."""
    for part in ("train", "val"):
        (root / part / "bee").rename(root / part / "bug")


def exchange_classes(root: Path) -> None:
    """Each has the name of the other, so that names and order are what they were."""
    for part in ("train", "val"):
        (root / part / "ant").rename(root / part / "other")
        (root / part / "bee").rename(root / part / "ant")
        (root / part / "other").rename(root / part / "bee")


def touch(root: Path) -> None:
    """Another time of modification, which is no change."""
    for path in root.rglob("*.png"):
        os.utime(path, (1, 1))


CHANGES: Mapping[str, tuple[Callable[[Path], None], str]] = MappingProxyType(
    {
        "moved": (move_image, "the train split has other files"),
        "deleted": (delete_image, r"the train split had \d+ samples and has \d+ now"),
        "renamed": (rename_image, "the train split has other files"),
        "changed": (change_image, "the train split has changed images"),
        "class renamed": (rename_class, "the classes have changed: 'bee' is gone, 'bug' is new"),
    }
)
"""What happens to a folder by name, and how the message describes it."""
