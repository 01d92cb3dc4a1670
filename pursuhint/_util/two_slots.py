"""Crash-safe states: two slots written in turn, so that one good state exists at every moment.

A state is written under a temporary name, flushed to the disk and renamed to slot ``0`` or ``1``, whichever
is *not* the good one. Only then does the small file ``latest``, replaced atomically, point to it.
``progress.json`` inside a state holds the size and hash of its other files, so that damage is noticed
before anything is loaded.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from safetensors import SafetensorError

from pursuhint._util.atomic_files import LARGEST_JSON, sync_folder, write_point, write_text
from pursuhint._util.input_files import read_text
from pursuhint._util.json_text import parse_json
from pursuhint.errors import PursuhintError

SLOTS = ("0", "1")
SCHEMA = 1


@dataclass(frozen=True)
class SavedState:
    """A state whose files have been checked.

    Attributes:
        folder: folder of its files.
        progress: the values passed to `TwoSlots.save`.
        notice: what was wrong with a newer state, if one had to be passed over.
    """

    folder: Path
    progress: dict[str, Any]
    notice: str | None = None


class TwoSlots(ABC):
    """A folder with the last two states of long work. Call `load` once before the first `save`.

    A subclass says how states are ordered (`age`), and gives the words for messages: `moment`, `parent_name`
    and `restart`.

    Args:
        folder: created with the first state. Its parent must exist.
        is_main: whether this rank creates, renames and removes; exactly one of the ranks that share
            the folder does.
        wait: barrier over the ranks that share the folder.
    """

    parent_name: ClassVar[str] = "the folder around it"
    """The parent of the folder, for messages."""

    restart: ClassVar[str] = "begin again"
    """What happens without the folder, for "remove ... to ...": """

    def __init__(
        self, folder: Path, *, is_main: bool = True, wait: Callable[[], None] = lambda: None
    ) -> None:
        self.folder = folder
        self._is_main = is_main
        self._wait = wait
        self._good: str | None = None  # the slot that must not be touched

    @abstractmethod
    def age(self, progress: Mapping[str, Any]) -> tuple[int, ...]:
        """How much work a state holds; of two states the one with more is newer.

        Raises:
            KeyError, TypeError, ValueError: the values are not those of a state.
        """

    @abstractmethod
    def moment(self, progress: Mapping[str, Any]) -> str:
        """When a state was saved, such as "after epoch 3", for messages."""

    def save(self, progress: dict[str, Any], write: Callable[[Path], None]) -> Path:
        """Save a state; the one before it stays until the next call.

        Args:
            progress: plain values that JSON can hold, with those that `age` reads.
            write: writes the files of the state into the folder that it receives; called on every rank.

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
                    raise FileNotFoundError(errno.ENOENT, f"{self.parent_name} has been deleted or moved")
                write_point(temporary)
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir(parents=True)
            self._wait()
            write(temporary)
            self._wait()
            if self._is_main:
                files = {path.name: _fingerprint(path) for path in sorted(temporary.iterdir())}
                content = {"schema": SCHEMA, **progress, "files": files}
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
                    kept = "; the same command resumes from the state before it"
                raise PursuhintError(
                    f"cannot save the state {self.moment(progress)} into {self.folder}: "
                    f"{_reason(error)}{kept}"
                ) from error
            raise
        self._good = slot
        return target

    def load(self, wanted: Callable[[Mapping[str, Any]], bool] | None = None) -> SavedState | None:
        """The newest good state, or None if none was ever saved.

        Args:
            wanted: tells by its values whether a state may be loaded; None if any may. Without such a state
                the result is None.

        Raises:
            PursuhintError: states exist, but every one is damaged.
        """
        present = [slot for slot in SLOTS if (self.folder / slot).exists()]
        if not present:
            return None
        named = self._named_slot()
        good: dict[str, dict[str, Any]] = {}
        problems: dict[str, str] = {}
        for slot in present:
            try:
                good[slot] = self._checked_progress(self.folder / slot)
            except PursuhintError as error:
                problems[slot] = str(error)
        if not good:
            raise PursuhintError(
                f"every state in {self.folder} is damaged ({'; '.join(problems.values())}); "
                f"remove {self.folder} to {self.restart}"
            )
        if wanted is not None:
            good = {slot: progress for slot, progress in good.items() if wanted(progress)}
            if not good:
                return None
        newest = max(good, key=lambda slot: self.age(good[slot]))
        slot = named if named in good else newest
        notice = None
        if slot != named and wanted is None:
            why = problems.get(named or "", f"{self.folder / 'latest'} is missing or damaged")
            notice = f"{why}; went back to the state {self.moment(good[slot])}"
        self._good = slot
        return SavedState(self.folder / slot, good[slot], notice)

    def _named_slot(self) -> str | None:
        """The slot that ``latest`` names, if it can be read."""
        try:
            name = (self.folder / "latest").read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            return None
        return name if name in SLOTS else None

    def _checked_progress(self, folder: Path) -> dict[str, Any]:
        """Read ``progress.json`` of a state and compare every file with the size and hash in it."""
        try:
            text = read_text(folder / "progress.json", "state", largest=LARGEST_JSON)
            progress: dict[str, Any] = parse_json(text)
            files, schema = dict(progress.pop("files")), progress.pop("schema")
            self.age(progress)
        except (PursuhintError, ValueError, KeyError, TypeError, AttributeError):
            raise PursuhintError(f"{folder / 'progress.json'} is missing or damaged") from None
        if schema != SCHEMA:
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
        return progress


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
