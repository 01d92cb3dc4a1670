"""Open files of the user: regular ones only, of a bounded size."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

from pursuhint.errors import PursuhintError

__all__ = ["open_regular", "read_bounded", "read_text", "shown"]


def shown(path: Path | str) -> str:
    """A path for messages: bytes that are not UTF-8 cannot be printed and become replacement characters."""
    return str(path).encode("utf-8", errors="surrogateescape").decode("utf-8", errors="replace")


def open_regular(path: Path | str, what: str) -> BinaryIO:
    """Open a regular file, or a link to one, for reading.

    A pipe would block the program and a device such as ``/dev/zero`` has no end, so both are refused before
    they are opened.

    Args:
        path: the file.
        what: noun for the messages, such as ``"checkpoint"``.

    Raises:
        PursuhintError: the file is missing, unreadable, a folder, or not a regular file.
    """
    path = Path(path)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            raise PursuhintError(f"{shown(path)} is a folder; give the {what} file in it")
        if not stat.S_ISREG(mode):
            raise PursuhintError(
                f"cannot read the {what} {shown(path)}: it is a pipe or a device, not a regular file"
            )
        return path.open("rb")
    except FileNotFoundError:
        raise PursuhintError(f"no {what} at {shown(path)}; the file does not exist") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the name
        reason = getattr(error, "strerror", None) or error
        raise PursuhintError(f"cannot read the {what} {shown(path)}: {reason}") from error


def read_bounded(path: Path | str, what: str, *, largest: int) -> bytes:
    """Read a whole regular file of at most ``largest`` bytes.

    Raises:
        PursuhintError: as `open_regular` raises, or the file is larger.
    """
    with open_regular(path, what) as file:
        size = os.fstat(file.fileno()).st_size  # read() allocates as much as it is asked for
        content = file.read(size) if size <= largest else b""
    if size > largest:
        raise PursuhintError(
            f"the {what} {shown(path)} is larger than {largest:,} bytes, more than such a file needs"
        )
    return content


def read_text(path: Path | str, what: str, *, largest: int) -> str:
    """Read a UTF-8 text file; a byte-order mark and CRLF line ends of Windows editors are removed.

    Raises:
        PursuhintError: as `read_bounded` raises, or the file is not UTF-8.
    """
    content = read_bounded(path, what, largest=largest)
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        raise PursuhintError(
            f"the {what} {shown(path)} is not UTF-8 text ({error.reason} at byte {error.start}); "
            "it may be damaged"
        ) from error
