"""IDX files: the array format of MNIST and of the data sets that took it over."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from pursuhint._util.input_files import open_regular, shown
from pursuhint.errors import PursuhintError

_UNSIGNED_BYTE = 8  # third byte of the header: the type of the values


def read_idx(path: Path, shape: tuple[int | None, ...]) -> np.ndarray:
    """Read an IDX file of unsigned bytes, packed by gzip or not.

    The header is two zero bytes, the type of the values, the number of axes, then the length of each axis
    as a big-endian 32-bit integer. A gzip file is unpacked up to the size that its header states and no
    further, so a small file cannot fill the memory.

    Args:
        path: the file.
        shape: expected length of each axis; None where any length above 0 will do, up to a million.

    Returns:
        uint8 array of the shape in the header.

    Raises:
        PursuhintError: the file is missing, of another format, type or shape, truncated, damaged, or longer
            than its header states.
    """
    with open_regular(path, "IDX file") as file:
        packed = file.read(2) == b"\x1f\x8b"
        file.seek(0)
        source = gzip.GzipFile(fileobj=file) if packed else file
        try:
            header = source.read(4 + 4 * len(shape))
            found = _shape_of(header, len(shape))
            if found is None or not _fits(found, shape):
                wanted = "x".join("any" if length is None else str(length) for length in shape)
                raise PursuhintError(
                    f"{shown(path)} is not an IDX file of {wanted} unsigned bytes; "
                    "it is another file, or damaged"
                )
            count = int(np.prod(found))
            content = source.read(count + 1)
        except (OSError, EOFError, zlib.error) as error:
            raise PursuhintError(
                f"cannot unpack {shown(path)}: {error}; it is truncated or damaged"
            ) from error
    if len(content) != count:
        size = "more" if len(content) > count else f"{len(content):,}"
        raise PursuhintError(
            f"{shown(path)} states {count:,} values and holds {size}; it is truncated or damaged"
        )
    return np.frombuffer(content, dtype=np.uint8).reshape(found)


def _shape_of(header: bytes, axes: int) -> tuple[int, ...] | None:
    if len(header) != 4 + 4 * axes or header[:4] != bytes((0, 0, _UNSIGNED_BYTE, axes)):
        return None
    return tuple(int(length) for length in np.frombuffer(header[4:], dtype=">u4"))


def _fits(found: tuple[int, ...], shape: tuple[int | None, ...]) -> bool:
    return all(
        0 < length <= 1_000_000 if expected is None else length == expected
        for length, expected in zip(found, shape, strict=True)
    )
