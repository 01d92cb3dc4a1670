"""Archives of arrays that claim more than they hold."""

from __future__ import annotations

import io
import json
import os
import zipfile
from pathlib import Path

import numpy as np
import pytest

from pursuhint.errors import PursuhintError
from pursuhint.similarity.archive import read_archive, write_archive


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


HEADER = _npy(np.array(json.dumps({"schema": 1})))


def _refused(path: Path, message: str) -> None:
    with pytest.raises(PursuhintError, match=message), read_archive(path, "similarity", 1):
        pass


def test_sizes_that_a_header_claims(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    write_archive(path, {"schema": 1}, {"x": np.zeros(10)})
    with read_archive(path, "similarity", 1) as (_, arrays):
        assert arrays["x"].tolist() == [0] * 10
    claim = _npy(np.zeros(10)).replace(b"(10,), }          ", b"(1000000000000,), }"[:19].ljust(19))
    assert b"1000000000000" in claim
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("header.npy", HEADER)
        archive.writestr("x.npy", claim)
    _refused(path, r"its array 'x\.npy' claims shape \(1000000000000,\)")


def test_compressed_archives(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros(10**7), header=np.array(json.dumps({"schema": 1})))
    _refused(tmp_path / "x.npz", r"its entry 'x\.npy' is compressed")


def test_objects_and_other_entries(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("header.npy", HEADER)
        archive.writestr("note.txt", "no array")
    _refused(tmp_path / "x.npz", "is not a similarity of PursuHint, or damaged")


def test_pipes(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.npz")
    _refused(tmp_path / "x.npz", "it is a pipe or a device")
