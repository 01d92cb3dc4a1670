"""Resumable states: two folders written in turn, so that one good one exists at every moment.

A state is written under a temporary name, flushed to the disk, renamed to ``state/0`` or ``state/1``
(whichever is *not* the good one), and only then does the small file ``state/latest``, replaced atomically,
point to it. ``progress.json`` inside a state holds the size and hash of its other files, so that damage is
noticed before anything is loaded.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from pursuhint._util.atomic_files import sync_folder, write_point, write_text
from pursuhint.errors import PursuhintError

try:
    import fcntl
except ImportError:  # no POSIX locks on this system: folders are not guarded there
    fcntl = None  # type: ignore[assignment]

_SLOTS = ("0", "1")
_SCHEMA = 1
_LOCKED: set[Path] = set()  # folders locked by this process: POSIX locks do not exclude their own process


@dataclass(frozen=True)
class SavedState:
    """A state that has been checked.

    Attributes:
        folder: where its files are.
        progress: what was passed to `StateStore.save`.
        notice: what was wrong with a newer state, if one had to be passed over.
    """

    folder: Path
    progress: dict[str, Any]
    notice: str | None = None


class StateStore:
    """The ``state`` folder of a run. Call `load` once before the first `save`, also for a new run.

    Args:
        folder: it is made when the first state is saved.
        is_main: whether this process does the renaming; with several processes exactly one does.
        wait: barrier over all processes.
    """

    def __init__(
        self, folder: Path, *, is_main: bool = True, wait: Callable[[], None] = lambda: None
    ) -> None:
        self.folder = folder
        self._is_main = is_main
        self._wait = wait
        self._good: str | None = None  # the slot that must not be touched

    def save(self, progress: dict[str, Any], write: Callable[[Path], None]) -> Path:
        """Save a state; the one before it stays until the next call.

        Args:
            progress: plain values that JSON can hold, with at least ``"epoch"``, the number of whole epochs,
                and in the middle of another one ``"step"``, the number of its steps that are done.
            write: puts the files of the state into the folder that it is given. Every process calls it.

        Returns:
            The folder of the state.

        Raises:
            PursuhintError: it could not be written; the state saved last is untouched.
        """
        slot = "1" if self._good == "0" else "0"
        temporary, target = self.folder / "writing", self.folder / slot
        try:
            if self._is_main:
                if not self.folder.parent.is_dir():
                    raise FileNotFoundError(errno.ENOENT, "the run folder has been deleted or moved")
                write_point(temporary)
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True)
            self._wait()
            write(temporary)
            self._wait()
            if self._is_main:
                files = {path.name: _fingerprint(path) for path in sorted(temporary.iterdir())}
                content = {"schema": _SCHEMA, **progress, "files": files}
                write_text(temporary / "progress.json", json.dumps(content, allow_nan=False))
                for name in files:
                    _sync_file(temporary / name)
                sync_folder(temporary)
                write_point(target)
                shutil.rmtree(target, ignore_errors=True)
                write_point(target)
                os.rename(temporary, target)
                sync_folder(self.folder)
                write_text(self.folder / "latest", slot + "\n")
            self._wait()
        except Exception as error:
            # torch and safetensors report a full disk as RuntimeError or an error class of their own
            if self._is_main:
                shutil.rmtree(temporary, ignore_errors=True)
            if isinstance(error, PursuhintError | OSError | RuntimeError | SafetensorError):
                kept = ""
                if (self.folder / "latest").is_file():
                    kept = "; the same command goes on from the state before it"
                raise PursuhintError(
                    f"cannot save the state {_moment(progress)} into {self.folder}: {_reason(error)}{kept}"
                ) from error
            raise
        self._good = slot
        return target

    def load(self) -> SavedState | None:
        """The newest good state, or None when none was ever saved.

        Raises:
            PursuhintError: states exist, but every one is damaged.
        """
        present = [slot for slot in _SLOTS if (self.folder / slot).exists()]
        if not present:
            return None
        named = self._named_slot()
        good: dict[str, dict[str, Any]] = {}
        problems: dict[str, str] = {}
        for slot in present:
            try:
                good[slot] = _checked_progress(self.folder / slot)
            except PursuhintError as error:
                problems[slot] = str(error)
        if not good:
            raise PursuhintError(
                f"every state in {self.folder} is damaged ({'; '.join(problems.values())}); "
                f"remove {self.folder} to train from the start"
            )
        newest = max(good, key=lambda slot: (good[slot]["epoch"], good[slot].get("step", 0)))
        slot = named if named in good else newest
        notice = None
        if slot != named:
            why = problems.get(named or "", f"{self.folder / 'latest'} is missing or damaged")
            notice = f"{why}; went back to the state {_moment(good[slot])}"
        self._good = slot
        return SavedState(self.folder / slot, good[slot], notice)

    def _named_slot(self) -> str | None:
        """The slot that ``latest`` names, if it can be read."""
        try:
            name = (self.folder / "latest").read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return name if name in _SLOTS else None


def _moment(progress: Mapping[str, Any]) -> str:
    """When a state was saved, in words."""
    if step := progress.get("step", 0):
        return f"after step {step} of epoch {progress['epoch'] + 1}"
    return f"after epoch {progress['epoch']}"


def _reason(error: Exception) -> str:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(reason.split())


def _sync_file(path: Path) -> None:
    write_point(path)
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _fingerprint(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def _checked_progress(folder: Path) -> dict[str, Any]:
    """Read ``progress.json`` of a state and compare every file with what it says."""
    try:
        progress: dict[str, Any] = json.loads((folder / "progress.json").read_text(encoding="utf-8"))
        epoch, files, schema = int(progress["epoch"]), dict(progress.pop("files")), progress.pop("schema")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise PursuhintError(f"{folder / 'progress.json'} is missing or damaged") from None
    if schema != _SCHEMA:
        raise PursuhintError(f"{folder} was written by another version of PursuHint (schema {schema})")
    for name, expected in files.items():
        path = folder / Path(name).name
        try:
            actual = _fingerprint(path)
        except OSError:
            raise PursuhintError(f"{path} is missing or unreadable") from None
        if actual != expected:
            kind = "truncated" if actual["bytes"] < expected.get("bytes", 0) else "damaged"
            raise PursuhintError(f"{path} is {kind}")
    return {**progress, "epoch": epoch}


@contextlib.contextmanager
def lock_folder(folder: Path) -> Iterator[None]:
    """Keep other processes from writing the same run folder; the lock ends with the process at the latest.

    Raises:
        PursuhintError: another run holds the lock.
    """
    path = (folder / ".lock").resolve()
    refusal = f"another run is writing {folder}; wait for it to end, or choose another folder"
    if path in _LOCKED:
        raise PursuhintError(refusal)
    try:
        file = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise PursuhintError(f"cannot write into the folder {folder}: {_reason(error)}") from error
    with file:
        if fcntl is not None:
            try:
                # lockf and not flock: loader processes inherit the latter, and would hold it after a crash
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except (BlockingIOError, PermissionError):
                raise PursuhintError(refusal) from None
            except OSError:
                pass  # a file system without locks
        _LOCKED.add(path)
        try:
            yield
        finally:
            _LOCKED.discard(path)
