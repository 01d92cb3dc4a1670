"""``pursuhint crosstask`` on small files in the formats of CIFAR-100 and CUB-200-2011."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pursuhint.data.class_splits import class_order
from pursuhint.models.safetensors_header import classes_of_weights
from pursuhint.study import CrossTaskResult
from tests.helpers.cub_lists import write_cub_lists

# All classes of CIFAR-100, which its files have in alphabetic order.
TEXT = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
CIFAR = TEXT.split()
BIRDS = [f"{number:03d}.Bird_{number}" for number in range(1, 201)]


def write_cifar100(root: Path) -> Path:
    """Two training images of every class and one to test, as Python pickles of byte keys or texts."""
    rng = np.random.default_rng(0)
    folder = root / "cifar-100-python"
    folder.mkdir(parents=True)
    for file, count in (("train", 2), ("test", 1)):
        labels = list(range(100)) * count
        content = {
            "filenames": [f"{index}.png" for index in range(len(labels))],
            "batch_label": f"{file} batch 1 of 1",
            "fine_labels": labels,
            "coarse_labels": [label // 5 for label in labels],
            "data": rng.integers(0, 256, (len(labels), 3072), dtype=np.uint8),
        }
        (folder / file).write_bytes(pickle.dumps(content, protocol=2))
    names = {"fine_label_names": CIFAR, "coarse_label_names": [f"group {index}" for index in range(20)]}
    (folder / "meta").write_bytes(pickle.dumps(names, protocol=2))
    return root


def write_cub200(root: Path) -> Path:
    """Two training photographs of every class and one to test, and the four lists."""
    rng = np.random.default_rng(0)
    folder = root / "CUB_200_2011"
    files = []
    for label, name in enumerate(BIRDS, 1):
        (folder / "images" / name).mkdir(parents=True)
        for index in range(3):
            path = f"{name}/{name[4:]}_{index:04d}.jpg"
            Image.fromarray(rng.integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(folder / "images" / path)
            files.append((path, label, index < 2))
    write_cub_lists(folder, BIRDS, files)
    return root


@pytest.mark.parametrize(
    ("data", "write", "overlap", "size"),
    [("cifar100", write_cifar100, 60, 50), ("cub200", write_cub200, 75, 100)],
    ids=["cifar100", "cub200"],
)
def test_classes_are_those_of_the_published_order(pursuhint, tmp_path, data, write, overlap, size):
    out = tmp_path / "out"
    words = ["crosstask", "--data", data, "--data-root", write(tmp_path / "data"), "--image-size", "16"]
    words += ["--teacher", "resnet8", "--student", "resnet8", "--epochs", "1", "--seeds", "0"]
    words += ["--method", "refilled", "--device", "cpu", "--overlap", str(overlap), "--out", out]
    done = pursuhint(*words)
    assert done.returncode == 0, done.stderr
    names = CIFAR if data == "cifar100" else [f"Bird {number}" for number in range(1, 201)]
    order = [names[label] for label in class_order(data, names)]
    if data == "cub200":
        assert order == names  # 0 to 199
    first = size - size * overlap // 100
    result = CrossTaskResult.load(out)
    assert result.teacher_classes == tuple(order[:size])
    assert result.overlaps[0].student_classes == tuple(order[first : first + size])
    assert len({*order[:size]} & {*result.overlaps[0].student_classes}) == size * overlap // 100
    assert classes_of_weights(out / "teacher" / "student.safetensors") == tuple(order[:size])
    plan = json.loads((out / "crosstask-plan.json").read_text())
    assert plan["teacher_classes"] == order[:size]
    assert plan["student_classes"] == {f"overlap-{overlap}": order[first : first + size]}
    assert result.cell(overlap, "refilled").last.mean >= 0
