"""The lock of a folder that one process writes at a time."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from pursuhint.errors import PursuhintError

try:
    import fcntl
except ImportError:  # no POSIX locks on this system: folders are not guarded there
    fcntl = None  # type: ignore[assignment]

__all__ = ["FolderInUse", "lock_folder"]

_LOCKED: set[Path] = set()  # folders locked by this process: POSIX locks do not exclude their own process


class FolderInUse(PursuhintError):
    """Another run is writing the folder."""


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other processes from writing the same run folder; the lock ends with the process at the latest.

    Raises:
        FolderInUse: another run holds the lock.
        PursuhintError: the folder cannot be written.
    """
    path = (folder / ".lock").resolve()
    refusal = f"another run is writing {folder}; wait for it to end, or choose another folder"
    if path in _LOCKED:
        raise FolderInUse(refusal)
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise PursuhintError(f"cannot write into the folder {folder}: {error.strerror or error}") from error
    with file:
        if fcntl is not None:
            try:
                # lockf and not flock: loader processes inherit the latter, and would hold it after a crash
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise FolderInUse(refusal) from None
            except OSError:
                pass  # a file system without locks
        _LOCKED.add(path)
        try:
            yield
        finally:
            _LOCKED.discard(path)
