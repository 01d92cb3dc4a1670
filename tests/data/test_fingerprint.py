"""A data set is known again, and what has changed in it is named."""

from __future__ import annotations

import re
import shutil

import pytest
import torch

from pursuhint.data import DataFingerprint, ImageData, fingerprint_data, load_folder
from pursuhint.data import fingerprint as module
from pursuhint.data.classes import class_difference, matched_by_name
from pursuhint.errors import PursuhintError
from tests.helpers.image_folders import CHANGES, exchange_classes, touch, write_folder

HOLD = {"in memory": 2**29, "from files": 0}


def noise(**more):
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (12, 1, 4, 4), dtype=torch.uint8, generator=generator)
    labels = torch.arange(12) % 3
    return ImageData.from_tensors("noise", train=(images, labels), test=(images, labels), **more)


@pytest.mark.parametrize("limit", HOLD.values(), ids=HOLD)
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_noticed_and_named(tmp_path, limit, change):
    folder = write_folder(tmp_path / "pets")
    before = DataFingerprint.of(load_folder(folder, memory_limit=limit))
    happen, words = CHANGES[change]
    happen(folder)
    data = load_folder(folder, memory_limit=limit)
    found = before.difference(DataFingerprint.of(data))
    assert found is not None
    assert re.search(words, found)
    assert fingerprint_data(data) != before.digest


@pytest.mark.parametrize("limit", HOLD.values(), ids=HOLD)
def test_exchanged_classes_are_noticed_though_names_and_order_are_equal(tmp_path, limit):
    folder = write_folder(tmp_path / "pets")
    before = DataFingerprint.of(load_folder(folder, memory_limit=limit))
    exchange_classes(folder)
    after = DataFingerprint.of(load_folder(folder, memory_limit=limit))
    assert before.classes == after.classes
    assert before.difference(after) is not None


@pytest.mark.parametrize("limit", HOLD.values(), ids=HOLD)
def test_times_and_place_of_files_do_not_count(tmp_path, limit):
    folder = write_folder(tmp_path / "pets")
    before = fingerprint_data(load_folder(folder, memory_limit=limit))
    touch(folder)
    assert fingerprint_data(load_folder(folder, memory_limit=limit)) == before
    moved = shutil.copytree(folder, tmp_path / "elsewhere" / "animals")
    assert fingerprint_data(load_folder(moved, memory_limit=limit)) == before


def test_it_does_not_depend_on_how_the_images_are_held(tmp_path):
    folder = write_folder(tmp_path / "pets")
    held, streamed = (load_folder(folder, memory_limit=limit) for limit in HOLD.values())
    assert fingerprint_data(held) == fingerprint_data(streamed)
    held, streamed = held.with_validation(0.3), streamed.with_validation(0.3)
    assert fingerprint_data(held) == fingerprint_data(streamed)


def test_of_large_sets_names_and_sizes_and_some_files_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "WHOLE_FILES", 0)
    monkeypatch.setattr(module, "SAMPLED_FILES", 2)
    folder = write_folder(tmp_path / "pets")
    before = fingerprint_data(load_folder(folder, memory_limit=0))
    touch(folder)
    assert fingerprint_data(load_folder(folder, memory_limit=0)) == before
    with (folder / "train/ant/1.png").open("ab") as file:  # not among the two that are read, but longer
        file.write(b"\0")
    assert fingerprint_data(load_folder(folder, memory_limit=0)) != before


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.train.images[3, 0, 1, 1].add_(1),
        lambda data: data.train.labels[3:5].copy_(data.train.labels[3:5].flip(0)),
    ],
    ids=["a pixel", "two labels"],
)
def test_tensors_that_change_in_place_are_noticed(change):
    data = noise()
    before = fingerprint_data(data)
    assert fingerprint_data(data) == before == fingerprint_data(noise())
    change(data)
    assert fingerprint_data(data) != before


def test_classes_and_constants_count():
    found = [noise(), noise(class_names=list("abc")), noise(class_names=list("acb")), noise(mean=[0.4])]
    assert len({fingerprint_data(data) for data in found}) == 4
    before = DataFingerprint.of(found[0])
    assert DataFingerprint.from_dict(before.to_dict(), before.classes) == before


def test_a_file_that_is_gone_is_named(tmp_path):
    folder = write_folder(tmp_path / "pets")
    data = load_folder(folder, memory_limit=0)
    (folder / "train/bee/2.png").unlink()
    with pytest.raises(PursuhintError, match=r"cannot read .*bee.2\.png: No such file"):
        fingerprint_data(data)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        ("abc", None),
        ("acb", "another order: class 1 was 'b' and is 'c' now"),
        ("abd", "'c' is gone, 'd' is new"),
        ("ab", "'c' is gone"),
        ("abcdef", "'d', 'e', 'f' are new"),
    ],
)
def test_what_differs_between_classes_is_named(now, words):
    found = class_difference("abc", now)
    assert found is None if words is None else words in found


def test_classes_are_matched_by_name():
    data = noise(class_names=list("cab"))
    matched = matched_by_name(data, ("a", "b", "c", "d"))
    assert matched.class_names == ("a", "b", "c", "d")
    names = [matched.class_names[label] for label in matched.test.labels.tolist()]
    assert names == ["cab"[label] for label in data.test.labels.tolist()]
    with pytest.raises(PursuhintError, match="'c' is none of its classes; evaluate on"):
        matched_by_name(data, ("a", "b"))
