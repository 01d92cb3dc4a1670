"""The four lists of CUB-200-2011 for a few photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def write_cub_lists(folder: Path, classes: Sequence[str], files: Sequence[tuple[str, int, bool]]) -> None:
    """Write what the data set says of its images.

    Args:
        folder: ``CUB_200_2011``.
        classes: as their folders are called.
        files: of every image its path, the number of its class, from 1, and whether it is for training.
    """
    for file, lines in (
        ("classes.txt", enumerate(classes, 1)),
        ("images.txt", enumerate((path for path, _, _ in files), 1)),
        ("image_class_labels.txt", enumerate((label for _, label, _ in files), 1)),
        ("train_test_split.txt", enumerate((int(training) for _, _, training in files), 1)),
    ):
        (folder / file).write_text("".join(f"{number} {entry}\n" for number, entry in lines))
