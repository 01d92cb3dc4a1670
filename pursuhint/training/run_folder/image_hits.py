"""Which test images the student of a run classifies correctly: ``correct.json`` of its folder."""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pursuhint._util.atomic_files import read_json, write_json
from pursuhint._util.json_files import validated
from pursuhint.errors import PursuhintError

HITS = "correct.json"
"""Name of the file in a run folder."""

Hits = NDArray[np.bool_]


class _HitsFile(BaseModel):
    """The content of the file.

    Attributes:
        epoch: after which the student was evaluated, from 1.
        samples: number of test images.
        bits: one bit an image in the order of the test split, the first one highest, packed into bytes, in
            base64.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[1] = Field(default=1, alias="schema")
    epoch: int = Field(ge=1)
    samples: int = Field(ge=1, le=1 << 30)
    bits: str


def save_hits(folder: Path, hits: Hits, *, epoch: int) -> None:
    """Write ``correct.json``.

    Args:
        folder: of the run.
        hits: whether each test image is classified correctly, in the order of the split, (images,).
        epoch: after which, from 1.

    Raises:
        PursuhintError: it cannot be written.
    """
    bits = base64.b64encode(np.packbits(hits).tobytes()).decode("ascii")
    write_json(folder / HITS, {"schema": 1, "epoch": epoch, "samples": len(hits), "bits": bits})


def load_hits(folder: Path) -> Hits | None:
    """Whether each test image is classified correctly after the last epoch, (images,).

    Returns:
        None if the run has no such file, as runs of older versions.

    Raises:
        PursuhintError: the file is damaged.
    """
    path = folder / HITS
    if not path.exists():
        return None
    what = f"the hits by image {path}"
    found = validated(_HitsFile, read_json(path, "hits by image"), what)
    try:
        packed = np.frombuffer(base64.b64decode(found.bits, validate=True), dtype=np.uint8)
    except (binascii.Error, ValueError):
        raise PursuhintError(f"{what} is not valid: bits: expected base64") from None
    if len(packed) != -(-found.samples // 8):
        raise PursuhintError(
            f"{what} is not valid: bits: expected {found.samples} of them, got {len(packed)} bytes"
        )
    return np.unpackbits(packed, count=found.samples).astype(bool)
