"""Files that are either whole or not there.

Everything PursuHint leaves behind is written to a temporary name in the same folder, flushed to the disk
and renamed, so that a crash or a full disk never leaves half a file under a good name.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from pursuhint._util.input_files import read_text
from pursuhint._util.json_text import parse_json
from pursuhint.errors import PursuhintError

__all__ = [
    "TEMPORARY",
    "append_text",
    "atomic_path",
    "make_folder",
    "read_json",
    "remove_halves",
    "sync_folder",
    "try_writing",
    "watch_writes",
    "write_json",
    "write_point",
    "write_text",
]

LARGEST_JSON = 256 << 20  # bytes; an analysis of 1,000 layers has about 10 MB

_SUFFIX = ".pursuhint.tmp"

_LONGEST = 180  # characters of a file's name in that of its temporary file
_DRAWN = 8  # characters that tempfile draws

TEMPORARY = re.compile(rf"\..+\.[a-z0-9_]{{{_DRAWN}}}" + re.escape(_SUFFIX))
"""Names of the temporary files of `atomic_path`, which no other program makes."""

_watchers: list[Callable[[Path], None]] = []


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def write_point(path: Path | str) -> None:
    """Say that something is about to be made, written, renamed or flushed under this name.

    Everything that is left behind passes here, so that tests can let any of it fail.
    """
    for watcher in tuple(_watchers):
        watcher(Path(path))


@contextlib.contextmanager
def watch_writes(watcher: Callable[[Path], None]) -> Iterator[None]:
    """Call ``watcher`` with the path at every `write_point` as long as the block lasts.

    An `OSError` that it raises is that of the write: this is how tests fill a disk.
    """
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.remove(watcher)


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries, so that a rename in it survives a power cut (a no-op where unsupported)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; rename it to ``path`` when the block ends without an error.

    On any error the temporary file is removed and ``path`` keeps what it held.

    Raises:
        PursuhintError: the file cannot be written (no permission, no space, no such folder).
    """
    path = Path(path)
    try:
        write_point(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(
            prefix=f".{path.name[:_LONGEST]}.", suffix=_SUFFIX, dir=path.parent
        )
        os.close(descriptor)
    except OSError as error:
        raise PursuhintError(f"cannot write {path}: {_reason(error)}") from error
    temporary = Path(name)
    try:
        yield temporary
        write_point(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp makes files that only their owner may read
        write_point(path)
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise PursuhintError(f"cannot write {path}: {_reason(error)}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def remove_halves(path: Path | str) -> None:
    """Remove what `atomic_path` left of earlier attempts to write a file whose processes were killed.

    Only for a file that no other process is writing.
    """
    path = Path(path)
    start = f".{path.name[:_LONGEST]}."
    for left in path.parent.glob(f".*{_SUFFIX}"):
        name = left.name.removesuffix(_SUFFIX)
        if name[:-_DRAWN] == start and TEMPORARY.fullmatch(left.name) and not left.is_symlink():
            with contextlib.suppress(OSError):
                left.unlink()


def write_text(path: Path | str, text: str) -> None:
    """Write ``text`` (UTF-8) to ``path``, whole or not at all.

    Raises:
        PursuhintError: the file cannot be written.
    """
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_text(path: Path | str, text: str) -> None:
    """Append ``text`` (UTF-8) to ``path`` and flush it to the disk. A crash may leave a part of it.

    Raises:
        PursuhintError: the file cannot be written.
    """
    path = Path(path)
    try:
        write_point(path)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise PursuhintError(f"cannot write {path}: {_reason(error)}") from error


def write_json(path: Path | str, value: Any) -> None:
    """Write ``value`` as indented JSON, whole or not at all. NaN and infinity are an error, not bad JSON.

    Raises:
        PursuhintError: the file cannot be written.
        ValueError: ``value`` holds a number that JSON cannot hold.
    """
    write_text(path, json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n")


def read_json(path: Path | str, what: str) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        what: what the file is, for the message ("hint plan", "analysis").

    Raises:
        PursuhintError: the file is missing, unreadable or not JSON.
    """
    text = read_text(path, what, largest=LARGEST_JSON)
    try:
        return parse_json(text)
    except ValueError as error:
        raise PursuhintError(f"the {what} {path} is not valid JSON ({error}); it may be damaged") from error


def try_writing(folder: Path) -> None:
    """Write a nameless file into a folder.

    Raises:
        OSError: it cannot be written.
    """
    with tempfile.TemporaryFile(dir=folder):
        pass


def make_folder(path: Path | str) -> Path:
    """Create a folder (and its parents) and make sure that files can be written in it.

    Raises:
        PursuhintError: it cannot be created or written, or a file has its name.
    """
    path = Path(path)
    try:
        write_point(path)
        path.mkdir(parents=True, exist_ok=True)
        try_writing(path)
    except FileExistsError:
        raise PursuhintError(f"cannot use {path} as a folder: a file of that name exists") from None
    except OSError as error:
        raise PursuhintError(f"cannot write into the folder {path}: {_reason(error)}") from error
    return path
