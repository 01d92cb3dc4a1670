"""CIFAR-10 and CIFAR-100 in the formats of their authors, and pickles that mean harm."""

from __future__ import annotations

import io
import os
import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision import datasets

from pursuhint.data import CropFlip, load_dataset
from pursuhint.data.cifar import read_pickle
from pursuhint.data.splits import MemorySplit
from pursuhint.errors import PursuhintError


class Python2Pickler(pickle._Pickler):
    """Writes protocol 2 as Python 2 did: all text as byte strings, numpy under its old names."""

    dispatch = pickle._Pickler.dispatch.copy()  # type: ignore[attr-defined]

    def save_text(self, value: str | bytes) -> None:
        raw = value.encode() if isinstance(value, str) else value
        if len(raw) < 256:
            self.write(pickle.SHORT_BINSTRING + bytes([len(raw)]) + raw)  # type: ignore[attr-defined]
        else:
            self.write(pickle.BINSTRING + struct.pack("<i", len(raw)) + raw)  # type: ignore[attr-defined]

    def save_global(self, value: Any, name: str | None = None) -> None:
        module = value.__module__.replace("numpy._core", "numpy.core")
        self.write(pickle.GLOBAL + f"{module}\n{name or value.__qualname__}\n".encode())  # type: ignore[attr-defined]

    dispatch[str] = dispatch[bytes] = save_text
    dispatch[type] = dispatch[type(len)] = dispatch[type(save_text)] = save_global


def write_python2(path: Path, content: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    Python2Pickler(buffer, protocol=2).dump(content)
    path.write_bytes(buffer.getvalue())


def random_batch(count: int, classes: int, seed: int) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(seed)
    pixels = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
    return pixels, rng.integers(0, classes, count).tolist()


def cifar10_batch(number: int, count: int = 6) -> dict[str, Any]:
    pixels, labels = random_batch(count, 10, number)
    return {
        "batch_label": f"training batch {number} of 5",
        "labels": labels,
        "data": pixels,
        "filenames": [f"{i}.png" for i in range(count)],
    }


def cifar100_batch(seed: int, count: int) -> dict[str, Any]:
    pixels, labels = random_batch(count, 100, seed)
    return {
        "filenames": [f"{i}.png" for i in range(count)],
        "batch_label": "training batch 1 of 1",
        "fine_labels": labels,
        "coarse_labels": [label // 5 for label in labels],
        "data": pixels,
    }


NAMES10 = ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]
NAMES100 = [f"class_{i}" for i in range(100)]


@pytest.fixture
def cifar10(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-10-batches-py"
    for number in range(1, 6):
        write_python2(folder / f"data_batch_{number}", cifar10_batch(number))
    write_python2(folder / "test_batch", cifar10_batch(6, count=4))
    write_python2(
        folder / "batches.meta", {"num_cases_per_batch": 6, "label_names": NAMES10, "num_vis": 3072}
    )
    return tmp_path


@pytest.fixture
def cifar100(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-100-python"
    write_python2(folder / "train", cifar100_batch(1, 12))
    write_python2(folder / "test", cifar100_batch(2, 5))
    write_python2(folder / "meta", {"fine_label_names": NAMES100, "coarse_label_names": ["c"] * 20})
    return tmp_path


def memory(split: object) -> MemorySplit:
    assert isinstance(split, MemorySplit)
    return split


def test_the_files_of_the_tests_have_the_true_format(cifar10: Path) -> None:
    raw = (cifar10 / "cifar-10-batches-py" / "data_batch_1").read_bytes()
    assert raw.startswith(b"\x80\x02")
    assert b"cnumpy.core.multiarray\n_reconstruct\n" in raw
    assert b"cnumpy\ndtype\n" in raw
    assert pickle.BINUNICODE not in raw[:20]


@pytest.mark.parametrize(("name", "train", "test"), [("cifar10", 30, 4), ("cifar100", 12, 5)])
def test_images_and_labels_equal_torchvisions(
    name: str, train: int, test: int, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = request.getfixturevalue(name)
    source = datasets.CIFAR10 if name == "cifar10" else datasets.CIFAR100
    monkeypatch.setattr(source, "_check_integrity", lambda self: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda path, md5: True)
    data = load_dataset(name, root=root)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pickle, "load", _load_for_torchvision)
        theirs = {part: source(root, train=part == "train") for part in ("train", "test")}
    for part, count in (("train", train), ("test", test)):
        split = memory(data.split(part))
        assert split.images.shape == (count, 3, 32, 32)
        assert torch.equal(split.images, torch.from_numpy(theirs[part].data).permute(0, 3, 1, 2))
        assert split.labels.tolist() == theirs[part].targets
        assert split.indices.tolist() == list(range(count))
    assert data.class_names == tuple(theirs["train"].classes)


class _OldNames(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _load_for_torchvision(file: io.BufferedReader, encoding: str) -> Any:
    """pickle.load for our own files, without numpy's warning about the old name of its module."""
    return _OldNames(file, encoding=encoding).load()


def test_constants_and_augmentation_are_the_usual_ones(cifar10: Path) -> None:
    data = load_dataset("cifar10", root=cifar10)
    assert (data.mean, data.std) == ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    assert data.augmentation == CropFlip(padding=4, flip=True)
    assert data.class_names == tuple(NAMES10)


def test_the_constants_of_cifar100_are_those_of_the_published_checkpoints(cifar100: Path) -> None:
    data = load_dataset("cifar100", root=cifar100)
    assert (data.mean, data.std) == ((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
    assert (data.num_classes, data.image_size) == (100, (32, 32))


def test_pickles_written_by_python_3_are_read_too(cifar10: Path) -> None:
    before = memory(load_dataset("cifar10", root=cifar10).train)
    path = cifar10 / "cifar-10-batches-py" / "data_batch_2"
    path.write_bytes(pickle.dumps(cifar10_batch(2), protocol=4))
    after = memory(load_dataset("cifar10", root=cifar10).train)
    assert torch.equal(before.images, after.images)
    assert torch.equal(before.labels, after.labels)


def test_an_array_in_column_order_is_read_right(cifar10: Path) -> None:
    batch = cifar10_batch(1)
    expected = torch.from_numpy(batch["data"]).reshape(-1, 3, 32, 32)
    batch["data"] = np.asfortranarray(batch["data"])
    write_python2(cifar10 / "cifar-10-batches-py" / "data_batch_1", batch)
    assert torch.equal(memory(load_dataset("cifar10", root=cifar10).train).images[:6], expected)


def test_the_binary_version_holds_the_same(cifar10: Path, tmp_path: Path) -> None:
    folder = tmp_path / "binary" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for number, name in [(i, f"data_batch_{i}.bin") for i in range(1, 6)] + [(6, "test_batch.bin")]:
        batch = cifar10_batch(number, count=4 if number == 6 else 6)
        records = np.column_stack([np.array(batch["labels"], dtype=np.uint8), batch["data"]])
        (folder / name).write_bytes(records.tobytes())
    (folder / "batches.meta.txt").write_text("\n".join(NAMES10) + "\n\n")
    ours, expected = load_dataset("cifar10", root=tmp_path / "binary"), load_dataset("cifar10", root=cifar10)
    for part in ("train", "test"):
        assert torch.equal(memory(ours.split(part)).images, memory(expected.split(part)).images)
        assert torch.equal(ours.split(part).labels, expected.split(part).labels)
    assert ours.class_names == expected.class_names


def test_the_binary_version_of_cifar100_gives_fine_labels(cifar100: Path, tmp_path: Path) -> None:
    folder = tmp_path / "binary" / "cifar-100-binary"
    folder.mkdir(parents=True)
    for name, batch in (("train.bin", cifar100_batch(1, 12)), ("test.bin", cifar100_batch(2, 5))):
        columns = [np.array(batch[key], dtype=np.uint8) for key in ("coarse_labels", "fine_labels")]
        (folder / name).write_bytes(np.column_stack([*columns, batch["data"]]).tobytes())
    (folder / "fine_label_names.txt").write_text("\n".join(NAMES100))
    ours, expected = (
        load_dataset("cifar100", root=tmp_path / "binary"),
        load_dataset("cifar100", root=cifar100),
    )
    assert torch.equal(memory(ours.train).images, memory(expected.train).images)
    assert torch.equal(ours.test.labels, expected.test.labels)


class RunsCode:
    """Unpickled freely, it would create a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("file", ["data_batch_3", "test_batch", "batches.meta"])
def test_a_pickle_that_would_run_code_does_not_and_is_named(cifar10: Path, file: str, protocol: int) -> None:
    evidence = cifar10 / "it-ran"
    path = cifar10 / "cifar-10-batches-py" / file
    path.write_bytes(pickle.dumps({"data": RunsCode(evidence)}, protocol=protocol))
    with pytest.raises(PursuhintError, match=r"data_batch_3|test_batch|batches\.meta") as caught:
        load_dataset("cifar10", root=cifar10)
    assert f"{path} asks to run {os.name}.mkdir" in str(caught.value)
    assert "do not trust this file" in str(caught.value)
    assert not evidence.exists()
    pickle.loads(path.read_bytes())
    assert evidence.exists()  # the file was dangerous indeed


HARMFUL = {
    "a shell command": b"cos\nsystem\n(S'touch it-ran'\ntR.",
    "a builtin": b'c__builtin__\neval\n(S\'open("it-ran", "w")\'\ntR.',
    "an allowed module, another name": b"cnumpy\nload\n(S'it-ran'\ntR.",
    "numpy's way to run text": b'cnumpy.testing._private.utils\nrunstring\n(S\'open("it-ran","w")\'\n}tR.',
    "a dotted name behind an allowed module": b"\x80\x04\x8c\x05numpy\x8c\x0btesting.sys\x93.",
    "an object made with inst": b"(S'touch it-ran'\nios\nsystem\n.",
    "an extension code": b"\x80\x02\x82\x01.",
    "a persistent id": b"Pit-ran\n.",
}


@pytest.mark.parametrize("pickled", HARMFUL.values(), ids=HARMFUL.keys())
def test_other_ways_to_run_code_are_closed(
    pickled: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "batch"
    path.write_bytes(pickled)
    with pytest.raises(PursuhintError, match=r"batch asks to run|cannot read .*batch: "):
        read_pickle(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["batch"]


def test_a_pickle_cannot_change_what_the_next_one_is_read_with(cifar10: Path) -> None:
    path = cifar10 / "attributes"
    # BUILD with a pair (None, {"__setstate__": ...}) sets attributes on whatever stands below it.
    key, name = b"X\x01\0\0\0a", b"X\x0c\0\0\0__setstate__"
    path.write_bytes(b"\x80\x02}" + key + b"cnumpy\ndtype\nN}" + name + b"cnumpy\nndarray\ns\x86bs.")
    with pytest.raises(PursuhintError, match="sets the state of a Name"):
        read_pickle(path)
    assert len(load_dataset("cifar10", root=cifar10).train) == 30


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02Nr\xff\xff\xff\x7f.",
        b"\x80\x02T\xff\xff\xff\x7f.",
        b"\x80\x02" + b"(" * 10**5 + b".",
        b"\x80\x02" + b"]" * 10**5 + b"a" * 99_999 + b".",
    ],
    ids=["memo slot 2^31", "string of 2 GB", "marks", "nested lists"],
)
def test_small_files_take_little_memory(tmp_path: Path, program: bytes) -> None:
    (tmp_path / "batch").write_bytes(program)
    tracemalloc.start()
    try:
        with pytest.raises(PursuhintError, match=r"cannot read .*batch: "):
            read_pickle(tmp_path / "batch")
        assert tracemalloc.get_traced_memory()[1] < 10**8
    finally:
        tracemalloc.stop()


def test_every_truncation_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "data_batch_1"
    write_python2(path, cifar10_batch(1, count=1))
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 37), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(PursuhintError, match=r"cannot read .*data_batch_1: .*truncated or damaged"):
            read_pickle(path)


def broken(**changes: Any) -> dict[str, Any]:
    return {**cifar10_batch(1), **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (broken(labels=[0, 1, 2, 3, 4, 10]), "data_batch_1: sample 5 has label 10, expected 0 to 9"),
        (broken(labels=[0, 1, 2, -1, 4, 5]), "data_batch_1: sample 3 has label -1"),
        (broken(labels=[0, 1, 2]), "6 images need as many whole-number labels, got 3"),
        (broken(labels=[0, 1, 2, 3, 4, 5.0]), "6 images need as many whole-number labels"),
        (broken(labels="012345"), "is not a batch of cifar10: no data or no labels"),
        (broken(data=[1, 2, 3]), "is not a batch of cifar10: no data or no labels"),
        ({"fine_labels": [1]}, "is not a batch of cifar10"),
        (broken(data=np.zeros((6, 3071), np.uint8)), r"pixels of shape \(6, 3071\)"),
        (broken(data=np.zeros((0, 3072), np.uint8)), r"pixels of shape \(0, 3072\)"),
        (broken(data=np.zeros((6, 3072), np.float32)), "pixels of type float32, expected u1"),
        (broken(data=np.zeros((6, 3, 32, 32), np.uint8)), "expected rows of 3072"),
        (broken(data=np.array([["a"] * 2] * 6, dtype=object)), "elements of type 'O8', expected numbers"),
        (broken(labels=[0, 1, 2, 3, 4, 2**64]), f"sample 5 has label {2**64}, expected 0 to 9"),
    ],
)
def test_a_batch_with_the_wrong_content_is_explained(cifar10: Path, content: Any, message: str) -> None:
    write_python2(cifar10 / "cifar-10-batches-py" / "data_batch_1", content)
    with pytest.raises(PursuhintError, match=message):
        load_dataset("cifar10", root=cifar10)


def test_a_file_that_is_no_dictionary_or_no_pickle_is_explained(cifar10: Path) -> None:
    path = cifar10 / "cifar-10-batches-py" / "test_batch"
    path.write_bytes(pickle.dumps([1, 2]))
    with pytest.raises(PursuhintError, match="it holds a list, expected a dictionary"):
        load_dataset("cifar10", root=cifar10)
    path.write_bytes(b"<!DOCTYPE html><title>404</title>")
    with pytest.raises(PursuhintError, match=r"cannot read .*test_batch: .*truncated or damaged"):
        load_dataset("cifar10", root=cifar10)


def test_wrong_class_names_are_explained(cifar10: Path) -> None:
    write_python2(cifar10 / "cifar-10-batches-py" / "batches.meta", {"label_names": NAMES10[:9]})
    with pytest.raises(PursuhintError, match=r"batches\.meta names 9 classes, expected 10"):
        load_dataset("cifar10", root=cifar10)


def test_a_truncated_binary_file_is_explained(tmp_path: Path) -> None:
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "test.bin").write_bytes(bytes(3074))
    (folder / "fine_label_names.txt").write_text("\n".join(NAMES100))
    for raw in (b"", bytes(3074 * 2 - 1)):
        (folder / "train.bin").write_bytes(raw)
        with pytest.raises(
            PursuhintError, match=rf"train.bin: {len(raw)} bytes, expected a multiple of 3074"
        ):
            load_dataset("cifar100", root=tmp_path)


def test_missing_data_says_where_it_was_looked_for_and_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(PursuhintError) as caught:
        load_dataset("cifar100", root=tmp_path)
    message = str(caught.value)
    assert message.startswith(
        f"no cifar100 in {tmp_path / 'cifar-100-python'} (expected the files train, test"
    )
    assert "--download" in message
    assert "PURSUHINT_DATA" in message
    assert "\n" not in message


def test_incomplete_data_names_the_missing_files(cifar10: Path) -> None:
    for name in ("data_batch_2", "batches.meta"):
        (cifar10 / "cifar-10-batches-py" / name).unlink()
    with pytest.raises(PursuhintError, match=r"is incomplete: no data_batch_2, batches\.meta; remove"):
        load_dataset("cifar10", root=cifar10)
