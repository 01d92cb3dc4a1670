"""What tells two data sets apart: classes, labels, files and pixels, kept as hashes in runs and analyses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from pursuhint._util.fingerprint import fingerprint_values
from pursuhint._util.network_input import named_tensors
from pursuhint.data.classes import class_difference
from pursuhint.data.dataset_split import DatasetSplit
from pursuhint.data.input_data import InputData, InputSplit
from pursuhint.data.splits import FileSplit, MemorySplit, Split
from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from pursuhint.data.image_data import ImageData

__all__ = ["DataFingerprint", "fingerprint_data"]

WHOLE_FILES = 2**30  # bytes; files that take no more are hashed whole, of larger sets some files
SAMPLED_FILES = 2_000  # of a larger set, so many files are hashed whole
SIZED_FILES = 200_000  # of more files than this, the sizes of an evenly spaced subset are read


@dataclass(frozen=True)
class SplitFingerprint:
    """Hashes of one split.

    Attributes:
        samples: how many there are.
        labels: hash of labels and indices, in their order.
        files: hash of the paths below the data set's folder; empty for data without files.
        content: hash of the sizes and bytes of the files, or of the pixels of data without files.
    """

    samples: int
    labels: str
    files: str
    content: str

    def difference(self, now: SplitFingerprint) -> str | None:
        """What has changed, in words; None if nothing has."""
        if self.samples != now.samples:
            return f"had {self.samples:,} samples and has {now.samples:,} now"
        if self.files != now.files:
            return "has other files: an image was moved, renamed or exchanged"
        if self.labels != now.labels:
            return "has other labels, or its samples in another order"
        if self.content != now.content:
            return "has changed images"
        return None


@dataclass(frozen=True)
class DataFingerprint:
    """What identifies a data set, whatever folder it is in and however it is held.

    Attributes:
        classes: names in the order of the labels.
        images: hash of channels, size, normalization (to four digits) and augmentation.
        splits: hashes by name of the split.
    """

    classes: tuple[str, ...]
    images: str
    splits: Mapping[str, SplitFingerprint]

    @classmethod
    def of(cls, data: ImageData | InputData) -> DataFingerprint:
        """The fingerprint of a data set.

        Data without files are hashed pixel by pixel. Of image files the relative paths count, the sizes in
        bytes (of more than 200,000 files: of an even selection), and the bytes of all files up to one
        gigabyte together, of 2,000 evenly spaced files of a larger set. Times of modification do not count.
        Of a data set that is read sample by sample, 500 evenly spaced samples are hashed.
        A split is hashed once and remembered.

        Raises:
            PursuhintError: a file is gone or cannot be read.
        """
        if isinstance(data, InputData):
            return cls(data.class_names, "", {name: fingerprint_inputs(s) for name, s in data.splits.items()})
        constants = [f"{value:.4g}" for value in (*data.mean, *data.std)]
        facts: tuple[Any, ...] = (data.in_channels, data.image_size, constants, data.augmentation)
        if data.given is not None:
            facts = (*facts, data.given.mean, data.given.std)
        return cls(
            classes=tuple(data.class_names),
            images=hashlib.sha256(repr(facts).encode()).hexdigest(),
            splits={name: fingerprint_split(split) for name, split in sorted(data.splits.items())},
        )

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], classes: tuple[str, ...]) -> DataFingerprint:
        """From what `to_dict` gave, and the class names that stand beside it."""
        splits = {name: SplitFingerprint(**split) for name, split in values["splits"].items()}
        return cls(classes, values["images"], splits)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON, without the class names."""
        return {"images": self.images, "splits": {name: asdict(split) for name, split in self.splits.items()}}

    def difference(self, now: DataFingerprint) -> str | None:
        """What distinguishes the data now from these, in words; None if nothing does."""
        classes = class_difference(self.classes, now.classes)
        if classes is not None:
            return classes
        if self.splits.keys() != now.splits.keys():
            return f"the splits were {', '.join(self.splits)} and are {', '.join(now.splits)} now"
        for name, split in self.splits.items():
            if (change := split.difference(now.splits[name])) is not None:
                return f"the {name} split {change}"
        if self.images != now.images:
            return "size, normalization or augmentation of the images have changed"
        return None

    @property
    def digest(self) -> str:
        """One hash of everything."""
        text = json.dumps([self.classes, self.to_dict()], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def fingerprint_data(data: ImageData | InputData) -> str:
    """SHA-256 of a data set's classes, labels, files, pixels and normalization, see `DataFingerprint.of`.

    Raises:
        PursuhintError: a file is gone or cannot be read.
    """
    return _fingerprint_inputs(data) if isinstance(data, InputData) else DataFingerprint.of(data).digest


def _fingerprint_inputs(data: InputData) -> str:
    """SHA-256 of the classes, inputs and labels of both splits."""
    values: dict[str, Any] = {"classes": data.class_names}
    for name, split in data.splits.items():
        values |= {f"{name} labels": split.labels, **named_tensors(split.inputs, f"{name} inputs")}
    return fingerprint_values(values)


def fingerprint_inputs(split: InputSplit) -> SplitFingerprint:
    """The fingerprint of samples that are no images."""
    labels = fingerprint_values({"labels": split.labels, "indices": split.indices})
    content = fingerprint_values(named_tensors(split.inputs, "inputs"))
    return SplitFingerprint(len(split), labels, "", content)


_known: WeakKeyDictionary[Split, tuple[int, SplitFingerprint]] = WeakKeyDictionary()


def fingerprint_split(split: Split | InputSplit) -> SplitFingerprint:
    """The fingerprint of a split; of one whose tensors have not changed since, the one known already."""
    if isinstance(split, InputSplit):
        return fingerprint_inputs(split)
    tensors = [split.labels, *([split.images] if isinstance(split, MemorySplit) else [])]
    # Inference tensors count no changes; changing them in place takes inference mode.
    version = sum(0 if tensor.is_inference() else tensor._version for tensor in tensors)
    known = _known.get(split)
    if known is not None and known[0] == version:
        return known[1]
    labels = hashlib.sha256(split.labels.cpu().numpy().tobytes())
    labels.update(split.indices.cpu().numpy().tobytes())
    files = split if isinstance(split, FileSplit) else getattr(split, "files", None)
    if isinstance(split, DatasetSplit):
        names, content = "", split.content()
    elif files is not None:
        names, content = _hash_names(files), _hash_files(files)
    else:
        assert isinstance(split, MemorySplit)
        names, content = "", _hash_pixels(split)
    found = SplitFingerprint(len(split), labels.hexdigest(), names, content)
    _known[split] = (version, found)
    return found


def _hash_names(files: FileSplit) -> str:
    digest = hashlib.sha256()
    for path in files.paths.tolist():
        digest.update(str(path).replace("\\", "/").encode("utf-8", "surrogateescape") + b"\0")
    return digest.hexdigest()


def _hash_files(files: FileSplit) -> str:
    """Hash of the sizes of the files, and of the bytes of all or some of them."""
    digest, total = hashlib.sha256(), 0
    step = -(-len(files) // SIZED_FILES)
    try:
        for position in range(0, len(files), step):
            size = files.path(position).stat().st_size
            total += size * step
            digest.update(f"{size} ".encode())
        step = 1 if total <= WHOLE_FILES else -(-len(files) // SAMPLED_FILES)
        for position in range(0, len(files), step):
            with files.path(position).open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
    except OSError as error:
        raise PursuhintError(f"cannot read {files.path(position)}: {error.strerror}") from error
    return digest.hexdigest()


def _hash_pixels(split: MemorySplit) -> str:
    digest = hashlib.sha256(f"{split.images.dtype} {tuple(split.images.shape)}".encode())
    for chunk in split.images.split(10_000):  # a copy of the whole would double the memory
        digest.update(chunk.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
