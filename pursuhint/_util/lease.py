"""Leases: files that say which process works on what, on one machine or on several that share a folder.

A lease names its host and process, and its holder touches it every few seconds. It ends when it is released,
when its process is gone, or when another host has not seen it touched for a while.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pursuhint._util.atomic_files import remove_halves, write_json
from pursuhint.errors import PursuhintError

try:
    import fcntl
except ImportError:  # no POSIX locks on this system
    fcntl = None  # type: ignore[assignment]

__all__ = ["Lease", "exclusive", "take_lease"]

BEAT = 10.0
"""Seconds between two heartbeats."""

PATIENCE = 120.0
"""Seconds without a heartbeat after which a process of another host counts as dead."""


class Lease:
    """A lease that this process holds, kept alive by a thread until `release`.

    Args:
        path: its file.
        beat: seconds between two heartbeats.
    """

    def __init__(self, path: Path, beat: float) -> None:
        self._path, self._beat, self._token = path, beat, uuid.uuid4().hex
        self._ended = threading.Event()
        self._lost = False
        write_json(path, {**_this_process(), "token": self._token})
        self._thread = threading.Thread(target=self._touch, name=f"lease {path.name}", daemon=True)
        self._thread.start()

    @property
    def is_lost(self) -> bool:
        """Whether another process has taken it over, because this one stood still for too long."""
        return self._lost

    def release(self) -> None:
        """End it; a lease that another process has taken over is left alone."""
        self._ended.set()
        self._thread.join()
        with exclusive(self._path.parent):
            if self._is_ours():
                self._path.unlink(missing_ok=True)

    def _touch(self) -> None:
        while not self._ended.wait(self._beat):
            if not self._is_ours():
                self._lost = True
                return
            with contextlib.suppress(OSError):  # a server that does not answer for a while
                os.utime(self._path)

    def _is_ours(self) -> bool:
        holder = _read(self._path)
        return holder is not None and holder.get("token") == self._token


def take_lease(path: Path, *, beat: float = BEAT, patience: float = PATIENCE) -> Lease | str:
    """Take a lease if nobody alive holds it.

    Args:
        path: its file; all leases of a folder are taken one after another.
        beat: seconds between two heartbeats.
        patience: seconds without one after which a process of another host counts as dead.

    Returns:
        The lease, or who holds it, as ``host, process 123``.

    Raises:
        PursuhintError: the folder cannot be written.
    """
    with exclusive(path.parent) as lock:
        holder = _read(path)
        if holder is not None and _is_alive(holder, path, lock, patience):
            return f"{holder.get('host')}, process {holder.get('pid')}"
        remove_halves(path)
        return Lease(path, beat)


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[Path]:
    """Wait until no other process is in such a block for the same folder.

    Yields:
        The file that is locked.

    Raises:
        PursuhintError: the folder cannot be written.
    """
    path = folder / ".lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise PursuhintError(f"cannot write into the folder {folder}: {error.strerror or error}") from error
    with file:
        if fcntl is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.lockf(file, fcntl.LOCK_EX)
        yield path


def _is_alive(holder: Mapping[str, Any], path: Path, lock: Path, patience: float) -> bool:
    here = _this_process()
    if all(holder.get(key) == here[key] for key in ("host", "namespace")):
        pid = holder.get("pid")
        return isinstance(pid, int) and _start_of(pid) == holder.get("start") is not None
    try:
        os.utime(lock)  # the clock of the file system, which all hosts share
        return lock.stat().st_mtime - path.stat().st_mtime < patience
    except OSError:
        return False


def _this_process() -> dict[str, Any]:
    pid = os.getpid()
    return {"host": socket.gethostname(), "namespace": _namespace(), "pid": pid, "start": _start_of(pid)}


def _namespace() -> str:
    """What tells the processes of containers with one name apart."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _start_of(pid: int) -> str | None:
    """When a process of this machine began, since numbers are used again; None if it is gone."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]  # ended, but not yet waited for
    except (OSError, ValueError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return None
    try:  # a system without /proc
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except OSError:
        pass
    return ""


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None
