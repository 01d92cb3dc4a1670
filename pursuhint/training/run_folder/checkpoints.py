"""The resumable states of a run, in ``state/0`` and ``state/1``, and the lock of its folder."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pursuhint._util.two_slots import TwoSlots
from pursuhint.errors import PursuhintError, PursuhintWarning

try:
    import fcntl
except ImportError:  # no POSIX locks on this system: folders are not guarded there
    fcntl = None  # type: ignore[assignment]

_WEIGHTS = ("student.safetensors", "best.safetensors")
_LOCKED: set[Path] = set()  # folders locked by this process: POSIX locks do not exclude their own process


class FolderInUse(PursuhintError):
    """Another run is writing the folder."""


class StateStore(TwoSlots):
    """The ``state`` folder of a run.

    `save` expects ``"epoch"`` in its values, the number of whole epochs, and in the middle of another epoch
    ``"step"``, the number of its steps that are done.
    """

    parent_name: ClassVar[str] = "the run folder"
    restart: ClassVar[str] = "train from the start"

    def age(self, progress: Mapping[str, Any]) -> tuple[int, ...]:
        return int(progress["epoch"]), int(progress.get("step", 0))

    def moment(self, progress: Mapping[str, Any]) -> str:
        if step := progress.get("step", 0):
            return f"after step {step} of epoch {progress['epoch'] + 1}"
        return f"after epoch {progress['epoch']}"


def missing_weights(folder: Path) -> tuple[str, ...]:
    """The files of weights that a finished run should have and has not."""
    return tuple(name for name in _WEIGHTS if not (folder / name).is_file())


def check_restorable(folder: Path, lost: tuple[str, ...]) -> None:
    """Check that the weights of a finished run can be restored from its state, and say that they will be.

    Args:
        folder: of the run.
        lost: names of the files.

    Raises:
        PursuhintError: there is no state, or none that is undamaged.
    """
    names = " and ".join(lost)
    if StateStore(folder / "state").load() is None:
        raise PursuhintError(
            f"the run in {folder} is finished, but {names} is gone and there is no state to restore it from; "
            "put the file back, or train again in another folder (--out)"
        )
    warnings.warn(
        f"{names} of the finished run {folder} was gone; it is restored from the state of the run",
        PursuhintWarning,
        stacklevel=2,
    )


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
