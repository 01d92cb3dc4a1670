"""Who owns an output folder: each kind of result has folders of its own, and a user's files are not ours."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from pursuhint._util.atomic_files import TEMPORARY, make_folder
from pursuhint._util.input_files import shown
from pursuhint.errors import PursuhintError

__all__ = ["Kind", "claim_folder", "kind_of", "new_folder", "remove_leftovers"]

Kind = Literal["demo", "study", "crosstask", "grid", "run", "analysis", "bundle", "transfer"]


@dataclass(frozen=True)
class _Rules:
    """How folders of one kind are recognised.

    Attributes:
        noun: of the kind, for messages.
        mark: file that makes a folder one of this kind.
        early: names that an interrupted command may leave before that file, each with the name that is
            written before it, or with itself.
    """

    noun: str
    mark: str
    early: Mapping[str, str]


# In the order in which a folder is recognised: a study has a recipe.yaml, too.
_KINDS: Mapping[Kind, _Rules] = MappingProxyType(
    {
        "demo": _Rules("a demo", "demo.json", {}),
        "study": _Rules("a comparison", "settings.json", {}),
        "crosstask": _Rules("a cross-task study", "crosstask-plan.json", {}),
        "grid": _Rules("a grid of runs", "grid.json", {"leases": "leases"}),
        "run": _Rules("a run", "recipe.yaml", {".lock": ".lock", "environment.json": "environment.json"}),
        "transfer": _Rules("a transfer", "transfer.json", {}),
        "analysis": _Rules(
            "an analysis",
            "analysis.json",
            {"state": "state", "pre": "pre", "analysis.npz": "analysis.npz", "hints.json": "analysis.npz"},
        ),
        "bundle": _Rules(
            "a bundle",
            "preprocess.json",
            dict.fromkeys(
                ("model.onnx", "labels.txt", "tokenizer.json", "predict.py", "README.md"), "model.onnx"
            ),
        ),
    }
)

_NOBODYS = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})  # file managers leave them everywhere

# Subfolders of a claimed folder that only this program writes to.
_INNER = ("figures", "state", "analysis", "pre", "teacher_student")


def kind_of(folder: Path) -> Kind | None:
    """What a folder holds, by the files that are in it; None for nothing of this program."""
    for kind, rules in _KINDS.items():
        if (folder / rules.mark).is_file():
            return kind
    return None


def claim_folder(folder: Path, kind: Kind) -> None:
    """Check that a folder may receive results of a kind. Nothing is written.

    It may be missing or empty, hold results of this kind (whose owner compares them with what is asked for),
    or the first files of a command of this kind that was interrupted.

    Raises:
        PursuhintError: the folder holds results of another kind, or files of somebody else; or it cannot be
            read.
    """
    rules = _KINDS[kind]
    found = kind_of(folder)
    if found == kind:
        return
    if found is not None:
        raise PursuhintError(
            f"{shown(folder)} holds {_KINDS[found].noun}, and {rules.noun} needs a folder of its own; "
            "choose another folder (--out)"
        )
    try:
        names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    except OSError as error:
        raise PursuhintError(f"cannot read the folder {shown(folder)}: {error.strerror or error}") from None
    ours = {name for name, before in rules.early.items() if before in names}
    others = sorted(name for name in names - ours - _NOBODYS if not TEMPORARY.fullmatch(name))
    if others:
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise PursuhintError(
            f"{shown(folder)} holds something else ({shown(others[0])}{more}), not {rules.noun}; "
            "choose another folder (--out)"
        )


@contextlib.contextmanager
def new_folder(folder: Path) -> Iterator[None]:
    """Make a folder for the results of the block; if that fails, no empty folder is left behind.

    Folders that were there before stay, and so does everything that holds a file, such as a state.

    Raises:
        PursuhintError: it cannot be made or written.
    """
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    make_folder(folder)
    try:
        yield
    except BaseException:
        inner = sorted(folder.rglob("*"), reverse=True) if folder in missing else []
        for path in (*inner, *missing):
            with contextlib.suppress(OSError):  # it is a file, or holds one
                path.rmdir()
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove what `pursuhint._util.atomic_files` left half written when its process was killed.

    Only names that no other program makes, in the folder itself and in the subfolders that this program makes
    in it. Only for a folder that was claimed and that no other process writes to.
    """
    found = [folder.glob(".*.tmp")]
    found += [(folder / name).rglob(".*.tmp") for name in _INNER if not (folder / name).is_symlink()]
    for path in (path for paths in found for path in paths):
        if TEMPORARY.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            with contextlib.suppress(OSError):
                path.unlink()
