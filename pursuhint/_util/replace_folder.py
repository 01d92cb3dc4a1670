"""Replace a result by another one (``--overwrite``), and remove nothing that is not of a result."""

from __future__ import annotations

import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from pursuhint._util.atomic_files import TEMPORARY
from pursuhint._util.folder_lock import lock_folder
from pursuhint._util.input_files import shown
from pursuhint._util.output_folder import Kind
from pursuhint.errors import PursuhintError

__all__ = ["DifferentResult", "check_replaceable", "remove_result"]


class DifferentResult(PursuhintError):
    """A folder holds a result of other settings, networks or data, which ``--overwrite`` replaces."""


@dataclass(frozen=True)
class _Contents:
    """What this program writes into a folder of one kind.

    Attributes:
        files: their names.
        folders: names of folders that hold nothing but its files.
        inner: names of folders that hold results of their own, which are looked at file by file.
        last: files to remove last: as long as they stand, the folder is known as one of its kind.
    """

    files: re.Pattern[str]
    folders: frozenset[str]
    inner: re.Pattern[str]
    last: tuple[str, ...]


_NONE = re.compile(r"(?!)")
_RUN = (
    r"(recipe\.yaml|environment\.json|metrics\.jsonl|result\.json|correct\.json|tokenizer\.json)"
    r"|(report\.html|table\.md)"
    r"|hints(-.+)?\.json|(student|best)\.(safetensors|onnx|onnx\.data|pt2)|student-matching\.safetensors|\.lock"
)
_STUDY = (
    r"(settings|compare|methods|crossed|search|memory|teacher|crosstask-measures)\.json"
    r"|(recipe|best)\.yaml|report\.html|table\.md|trials\.journal(\.[a-z]+)?"
)
_FOLDERS = frozenset(
    {"state", "figures", "analysis", "pre", "teacher_student", "tensorboard", "wandb", "bundle"}
)
_REPORT = r"|report\.html|table\.md"

_KINDS: Mapping[str, _Contents] = MappingProxyType(
    {
        "run": _Contents(re.compile(_RUN), _FOLDERS, _NONE, ("environment.json", "recipe.yaml")),
        "study": _Contents(
            re.compile(_STUDY), _FOLDERS, re.compile("arms|cells|trials|confirm|choosing"), ("settings.json",)
        ),
        "crosstask": _Contents(
            re.compile(r"crosstask(-plan)?\.json" + _REPORT),
            _FOLDERS | {"points"},
            re.compile(r"teacher|overlap-[0-9.e+-]+"),
            ("crosstask-plan.json",),
        ),
        "grid": _Contents(
            re.compile(r"grid\.json" + _REPORT), _FOLDERS | {"leases", "jobs"}, _NONE, ("grid.json",)
        ),
        "demo": _Contents(
            re.compile(r"demo\.json" + _REPORT), _FOLDERS, re.compile("teacher|compare"), ("demo.json",)
        ),
        "transfer": _Contents(
            re.compile(r"transfer\.json" + _REPORT), _FOLDERS, _NONE, ("transfer.json",)
        ),
    }
)  # fmt: skip
_INSIDE = _Contents(re.compile(f"{_RUN}|{_STUDY}"), _FOLDERS, re.compile(".*"), ())


def check_replaceable(folder: Path, kind: Kind, *, cells: Collection[str] = (), locked: bool = False) -> None:
    """Check that a folder holds nothing that somebody else has put there, and that nobody writes to it.

    Args:
        folder: of a result.
        kind: of that result.
        cells: names of folders in it that hold runs, where these have names of their own.
        locked: whether the caller locks the folder itself.

    Raises:
        PursuhintError: it does; the message names the first such file. Or another process is writing a run in
            it.
    """
    for path in _strangers(folder, _KINDS[kind], frozenset(cells)):
        raise PursuhintError(
            f"{shown(folder)} holds {shown(path.relative_to(folder))}, which is not of a {_noun(kind)}; move "
            f"it away, or choose another folder (--out), before the {_noun(kind)} in it is replaced"
        )
    for lock in sorted(folder.rglob(".lock")):
        inside = lock.relative_to(folder).parts
        if not (locked and len(inside) == 1) and inside[0] not in _KINDS[kind].folders:
            with lock_folder(lock.parent):
                pass


def remove_result(folder: Path, kind: Kind, *, keep: Collection[str] = ()) -> None:
    """Remove the result in a folder that `check_replaceable` accepted; the folder and its lock stay.

    Killed in between, it leaves a folder that is still known as the old result, to be replaced again.
    """
    last = _KINDS[kind].last
    paths = sorted(folder.iterdir(), key=lambda path: (path.name in last, path.name))
    for path in paths:
        if path.name == ".lock" or path.name in keep:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _strangers(folder: Path, contents: _Contents, cells: frozenset[str]) -> Iterator[Path]:
    """Files and folders that are not of the result, the first ones of the alphabet first."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink():
            if path.name in contents.folders:
                continue
            if path.name in cells or contents.inner.fullmatch(path.name):
                yield from _strangers(path, _INSIDE, frozenset())
                continue
        elif contents.files.fullmatch(path.name) or TEMPORARY.fullmatch(path.name):
            continue
        yield path


def _noun(kind: Kind) -> str:
    return {"study": "comparison", "crosstask": "cross-task study", "grid": "grid of runs"}.get(kind, kind)
