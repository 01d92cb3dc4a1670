"""Check ``environment.json`` and ``metrics.jsonl`` of a run folder, which somebody else may have written."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from pursuhint._util.arguments import is_number
from pursuhint._util.atomic_files import read_json
from pursuhint._util.json_files import checked
from pursuhint._util.provenance import BaseProvenance
from pursuhint._util.size_bounds import LARGEST_CHANNELS, LARGEST_CLASSES
from pursuhint.errors import PursuhintError
from pursuhint.models.teacher_accuracy import TeacherAccuracy
from pursuhint.training.run_folder.environment import ENVIRONMENT

_NEEDED = ("epoch", "train_loss", "test_loss", "test_top1")
_LARGEST_IMAGE = 1 << 28  # values; its zeros are allocated to find the layers of a network

Side = Annotated[int, Field(ge=1, le=1 << 16)]


Finite = Annotated[float, Field(allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class _Preprocessing(BaseModel):
    model_config = ConfigDict(extra="allow")

    size: list[Side] = Field(min_length=2, max_length=2)
    resize: str
    crop: Positive
    mean: list[Finite]
    std: list[Positive]
    channels: int
    value_range: list[Finite] | None
    source: str
    exif: bool = False


class _Normalization(BaseModel):
    mean: list[Finite]
    std: list[Positive]
    source: str


class _SplitFingerprint(BaseModel):
    samples: int = Field(ge=0)
    labels: str
    files: str
    content: str


class _Fingerprint(BaseModel):
    images: str
    splits: dict[str, _SplitFingerprint]


class _Data(BaseModel):
    model_config = ConfigDict(extra="allow")

    name: str
    class_names: list[str] = []
    preprocessing: _Preprocessing | None = None
    teacher_normalization: _Normalization | None = None
    num_classes: int = Field(ge=1, le=LARGEST_CLASSES)
    in_channels: int | None = Field(ge=1, le=LARGEST_CHANNELS)  # None for samples that are no images
    image_size: list[Side] | None = Field(min_length=2, max_length=2)
    vocab_size: int | None = Field(default=None, ge=1, le=1 << 24)  # of texts
    tokens: int | None = Field(default=None, ge=1, le=1 << 20)
    samples: dict[str, Annotated[int, Field(ge=0)]] = {}
    fingerprint: _Fingerprint | None = None


class _Environment(BaseModel):
    model_config = ConfigDict(extra="allow")

    data: _Data
    teacher: TeacherAccuracy | None = None
    parameters: dict[str, Annotated[int, Field(ge=0)]] = {}
    inputs: dict[str, str] = {}
    resumed: list[dict[str, Any]] = []
    packages: dict[str, str] = {}
    started: str = ""
    pursuhint: str = ""
    python: str = ""
    platform: str = ""
    device: str = ""
    device_name: str = ""
    cuda: str | None = None
    threads: int = 1
    processes: int = 1
    seed: int = 0
    git: dict[str, Any] | None = None
    command: str | list[str] = ""
    provenance: BaseProvenance | None = None


def read_environment(folder: Path) -> dict[str, Any]:
    """The content of a run's ``environment.json``, with the types that its readers expect.

    Raises:
        PursuhintError: an entry is missing, of another type, or larger than any network takes; the message
            names file and entry.
    """
    path = folder / ENVIRONMENT
    what = f"the description of the run {path}"
    found = checked(_Environment, read_json(path, "description of the run"), what)
    height, width = found.data.image_size or (1, 1)
    if (found.data.in_channels or 1) * height * width > _LARGEST_IMAGE:
        raise PursuhintError(
            f"{what} is not valid: data.image_size: images of {height} x {width} are larger than any"
        )
    return found.model_dump(exclude_unset=True)


def checked_data(values: Any, what: str) -> dict[str, Any]:
    """A description of data from a file, as `describe_data` gave it; empty where an old version wrote it.

    Raises:
        PursuhintError: an entry is missing, or of another type.
    """
    return checked(_Data, values, what).model_dump(exclude_unset=True) if values else {}


def checked_preprocessing(values: Any, what: str) -> dict[str, Any]:
    """How images become the input of a network, from a file.

    Raises:
        PursuhintError: an entry is missing, or of another type, or the numbers do not fit together.
    """
    found = checked(_Preprocessing, values, what)
    height, width = found.size
    if found.channels * height * width > _LARGEST_IMAGE or not 0.1 <= found.crop <= 10:
        raise PursuhintError(f"{what} is not valid: images of {height} x {width} are larger than any")
    if not len(found.mean) == len(found.std) == found.channels:
        raise PursuhintError(f"{what} is not valid: mean and std need {found.channels} values each")
    return found.model_dump()


def checked_epoch(values: Any, what: str) -> dict[str, Any]:
    """One line of ``metrics.jsonl``.

    Raises:
        PursuhintError: it is no mapping of names to numbers (and the name of the stage), or lacks one that
            every epoch has.
    """
    if not isinstance(values, Mapping):
        raise PursuhintError(f"{what} is not valid: expected metrics of an epoch, got {str(values)[:40]!r}")
    for name in _NEEDED:
        if name not in values:
            raise PursuhintError(f"{what} is not valid: {name} is missing")
    for name, value in values.items():
        expected = "a text" if name == "stage" else "a number"
        good = isinstance(value, str) if name == "stage" else is_number(value)
        if not (good or (value is None and name not in _NEEDED)):
            raise PursuhintError(f"{what} is not valid: {name}: expected {expected}, got {str(value)[:40]!r}")
    return dict(values)
