"""Files that commands write: what is there already is replaced on request only (``--overwrite``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pursuhint._util.atomic_files import try_writing
from pursuhint._util.input_files import shown
from pursuhint.errors import PursuhintError

if TYPE_CHECKING:
    from pursuhint.hints import HintPlan


def check_free(path: Path | None, *, overwrite: bool) -> None:
    """Refuse to write to a file or folder that is there already, unless it may be replaced.

    Nothing is written.

    Raises:
        PursuhintError: ``path`` exists, and ``overwrite`` is not set; or nothing can be written there.
    """
    if path is not None and not overwrite and path.exists():
        what = "folder" if path.is_dir() else "file"
        raise PursuhintError(
            f"{shown(path)} is there already; choose another {what} (--out), or replace it (--overwrite)"
        )
    if path is not None:
        above = next(folder for folder in path.absolute().parents if folder.exists())
        try:
            try_writing(above)
        except OSError as error:
            raise PursuhintError(f"cannot write {shown(path)}: {error.strerror or error}") from error


def save_plan(plan: HintPlan, path: Path, *, overwrite: bool) -> None:
    """Write a hint plan; the same points chosen in the same way are written again, others are not replaced.

    Raises:
        PursuhintError: the file holds something else, and ``overwrite`` is not set; or it cannot be written.
    """
    from pursuhint.hints import HintPlan

    try:
        before = HintPlan.load(path) if path.exists() else None
    except PursuhintError:  # no hint plan
        before = None
    same = before is not None and (before.pairs, before.origin) == (plan.pairs, plan.origin)
    check_free(path, overwrite=overwrite or same)
    plan.save(path)
