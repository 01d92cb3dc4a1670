"""CUB-200-2011 from its lists."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pursuhint.data import FileSplit, ResizedCropFlip, load_dataset, make_loader
from pursuhint.errors import PursuhintError
from tests.helpers.cub_lists import write_cub_lists

CLASSES = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "003.Sooty_Albatross")


@pytest.fixture
def cub(tmp_path: Path, write_image: Callable[..., np.ndarray]) -> Path:
    folder = tmp_path / "CUB_200_2011"
    files: list[tuple[str, int, bool]] = []
    for label, name in enumerate(CLASSES, 1):
        for i in range(4):
            path = f"{name}/{name}_{i:04d}.jpg"
            write_image(
                folder / "images" / path, 40 + i, 50, mode="L" if i == 3 else "RGB", seed=len(files) + 1
            )
            files.append((path, label, i % 2 == 0))
    write_cub_lists(folder, CLASSES, files)
    return tmp_path


def test_splits_classes_and_files_are_those_of_the_lists(cub: Path) -> None:
    data = load_dataset("cub200", root=cub, image_size=32)
    assert data.class_names == ("Black footed Albatross", "Laysan Albatross", "Sooty Albatross")
    assert (data.num_classes, data.in_channels, data.image_size) == (3, 3, (32, 32))
    assert data.augmentation == ResizedCropFlip()
    for split, numbers in ((data.train, ("0000", "0002")), (data.test, ("0001", "0003"))):
        assert isinstance(split, FileSplit)
        names = [split.path(i).name for i in range(len(split))]
        assert names == [f"{name}_{number}.jpg" for name in CLASSES for number in numbers]
        assert split.labels.tolist() == [0, 0, 1, 1, 2, 2]
    (batch,) = make_loader(data, "test", batch_size=8, training=False).epoch()
    assert batch.images.shape == (6, 3, 32, 32)  # the grey photograph too


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("images.txt", "", "images.txt is empty"),
        ("images.txt", "1 a.jpg\n1 b.jpg\n", "line 2: expected a number that was not listed before"),
        ("images.txt", "one a.jpg\n", "line 1: expected a number"),
        ("image_class_labels.txt", "1 1\n", "images.txt differ: image 10 is in one of them only"),
        ("image_class_labels.txt", "\n".join(f"{i} 9" for i in range(1, 13)), "image 1 has class '9', which"),
        (
            "train_test_split.txt",
            "\n".join(f"{i} 2" for i in range(1, 13)),
            "image 1 has '2', expected 1",
        ),
        (
            "images.txt",
            "\n".join(f"{i} ../x.jpg" for i in range(1, 13)),
            "which is not below",
        ),
        ("images.txt", "\n".join(f"{i} /etc/x.jpg" for i in range(1, 13)), "not below images/"),
    ],
)
def test_a_wrong_list_is_one_line(cub: Path, file: str, content: str, message: str) -> None:
    (cub / "CUB_200_2011" / file).write_text(content)
    with pytest.raises(PursuhintError, match=message) as caught:
        load_dataset("cub200", root=cub)
    assert "\n" not in str(caught.value)


def test_missing_lists_are_named(cub: Path) -> None:
    (cub / "CUB_200_2011" / "train_test_split.txt").unlink()
    with pytest.raises(PursuhintError, match=r"incomplete: no train_test_split\.txt"):
        load_dataset("cub200", root=cub)
    with pytest.raises(PursuhintError, match="no cub200 in"):
        load_dataset("cub200", root=cub / "elsewhere")
