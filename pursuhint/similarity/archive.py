"""Arrays with a JSON header in one ``.npz`` file, without pickled objects."""

from __future__ import annotations

import contextlib
import json
import math
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pursuhint._util.atomic_files import atomic_path
from pursuhint._util.input_files import open_regular
from pursuhint._util.json_text import parse_json
from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["read_archive", "write_archive"]


def write_archive(
    path: Path | str, header: Mapping[str, Any], arrays: Mapping[str, Tensor | NDArray[Any] | None]
) -> None:
    """Write arrays or tensors and a JSON text ``header``; those that are None are left out.

    Raises:
        PursuhintError: the file cannot be written.
    """
    given = {
        name: array if isinstance(array, np.ndarray) else array.cpu().numpy()
        for name, array in arrays.items()
        if array is not None
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **given, header=np.array(json.dumps(header)))  # type: ignore[arg-type]


@contextlib.contextmanager
def read_archive(
    path: Path | str, what: str, schema: int
) -> Iterator[tuple[dict[str, Any], dict[str, NDArray[Any]]]]:
    """Read the header and the arrays that `write_archive` wrote; needs no torch.

    Errors inside the ``with`` block are reported as a damaged file too.

    Args:
        path: the file.
        what: kind of content, for messages: ``"layer similarity"``.
        schema: required ``schema`` entry of the header.

    Raises:
        PursuhintError: the file is missing, damaged or of another kind.
    """
    path = Path(path)
    opened = open_regular(path, what)
    try:
        with opened as file:
            if not zipfile.is_zipfile(file):  # NumPy would take it for a pickle, and say how to run that
                raise ValueError("it is no archive of arrays")
            _check_sizes(file)
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                header = parse_json(str(arrays["header"]))
                found = {name: arrays[name] for name in arrays if name != "header"}
        if header["schema"] != schema:
            raise ValueError(
                f"it has schema {header['schema']}; this version of PursuHint reads schema {schema}"
            )
        yield header, found
    except OSError as error:
        raise PursuhintError(f"cannot read the {what} {path}: {error.strerror or error}") from error
    except (
        EOFError, KeyError, TypeError, ValueError, MemoryError, RuntimeError, zipfile.BadZipFile, zlib.error,
        PursuhintError,
    ) as error:  # fmt: skip
        raise PursuhintError(f"{path} is not a {what} of PursuHint, or damaged: {error}") from error


def _check_sizes(file: BinaryIO) -> None:
    """Check that no array claims more bytes than its entry holds: NumPy allocates what a header claims.

    Raises:
        ValueError: an entry is compressed, which `write_archive` never does, or claims more than it holds.
    """
    with zipfile.ZipFile(file) as archive:
        for entry in archive.infolist():
            if entry.compress_type != zipfile.ZIP_STORED:
                raise ValueError(f"its entry {entry.filename[:40]!r} is compressed")
            with archive.open(entry) as member:
                version = np.lib.format.read_magic(member)
                read = {(1, 0): np.lib.format.read_array_header_1_0}.get(
                    version, np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read(member)
            if math.prod(shape) * dtype.itemsize > entry.file_size:
                raise ValueError(f"its array {entry.filename[:40]!r} claims shape {shape}")
