"""Small data on the disk, for the tests of the data sets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def write_image() -> Callable[..., np.ndarray]:
    """Write a random image of the given height and width and return its pixels."""

    def write(path: Path, height: int = 8, width: int = 8, *, mode: str = "RGB", seed: int = 0) -> np.ndarray:
        rng = np.random.default_rng(seed)
        shape = (height, width) if mode == "L" else (height, width, len(mode))
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
        return pixels

    return write


@pytest.fixture
def image_folder(tmp_path: Path, write_image: Callable[..., np.ndarray]) -> Path:
    """A folder with train and val, classes ant, bee and cat of 4, 3 and 5 training and 2 test images each."""
    seed = 0
    for part, counts in (("train", (4, 3, 5)), ("val", (2, 2, 2))):
        for name, count in zip(("ant", "bee", "cat"), counts, strict=True):
            for number in range(count):
                seed += 1
                write_image(tmp_path / "pets" / part / name / f"{number}.png", seed=seed)
    return tmp_path / "pets"
