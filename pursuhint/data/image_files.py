"""Find the image files of class folders, and say which files are left out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch

from pursuhint._util.input_files import shown
from pursuhint._util.warn_user import warn_user
from pursuhint.data.decode import IMAGE_SUFFIXES
from pursuhint.data.splits import FileSplit
from pursuhint.errors import PursuhintError

# Folders of thumbnails that NAS systems and archivers put beside the images; hidden ones are skipped, too.
_NO_CLASSES = frozenset({"@eaDir", "__MACOSX", "lost+found"})
_NO_IMAGES = frozenset({"thumbs.db", "desktop.ini"})


def list_classes(folder: Path) -> tuple[str, ...]:
    """Names of the class folders in ``folder``, in the order of text, as in torchvision's ``ImageFolder``.

    Hidden folders and folders of thumbnails are skipped.

    Raises:
        PursuhintError: the folder does not exist or holds no folder, or a name is not UTF-8.
    """
    names = sorted(entry.name for entry in _entries(folder) if entry.is_dir())
    if not names:
        raise PursuhintError(f"{folder} holds no class folders; expected one folder a class")
    for name in names:
        if not _is_text(name):
            raise PursuhintError(
                f"a class folder of {folder} has a name that is not UTF-8, {shown(name)}; rename it"
            )
    return tuple(names)


def warn_of_number_names(folder: Path, classes: tuple[str, ...]) -> None:
    """Say that names such as 0, 1, 10 are in the order of text, if that differs from the order of numbers."""
    if all(name.isdecimal() for name in classes) and sorted(classes, key=int) != list(classes):
        warn_user(
            f"the classes of {folder} are numbered in the order of text ({', '.join(classes[:4])}, ...), "
            "as in torchvision's ImageFolder; names of equal length (00, 01, 10) have one order"
        )


def list_images(
    folder: Path, classes: tuple[str, ...], *, complete: bool = True, skipped: Counter[str] | None = None
) -> FileSplit:
    """The images of a folder with one folder a class, ordered by class and then by path.

    Args:
        folder: contains the class folders. Links to folders are followed.
        classes: the expected classes, in the order of their labels.
        complete: refuse classes without images; otherwise a warning names them.
        skipped: receives the number of files left out, by suffix.

    Raises:
        PursuhintError: a folder cannot be read, has other classes, or holds no images.
    """
    present = list_classes(folder)
    unexpected, missing = sorted(set(present) - set(classes)), sorted(set(classes) - set(present))
    if unexpected or (missing and complete):
        raise PursuhintError(
            f"{folder} does not have the expected classes: "
            + "; ".join(
                f"{what} {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}"
                for what, names in (("missing", missing), ("unexpected", unexpected))
                if names
            )
        )
    skipped = Counter() if skipped is None else skipped
    paths: list[str] = []
    labels: list[int] = []
    empty = []
    for label, name in enumerate(classes):
        found = sorted(_images(folder / name, name, skipped)) if name in present else []
        if not found:
            empty.append(name)
        paths.extend(found)
        labels.extend([label] * len(found))
    if empty and (complete or not paths):
        kinds = ", ".join(sorted(IMAGE_SUFFIXES))
        raise PursuhintError(f"the class folder {folder / empty[0]} holds no images ({kinds})")
    if empty:
        names = ", ".join(empty[:5]) + (" ..." if len(empty) > 5 else "")
        warn_user(
            f"{folder} holds no images of {len(empty)} of {len(classes)} classes ({names}); accuracies "
            "say nothing about them"
        )
    return FileSplit.whole(folder, np.array(paths), torch.tensor(labels))


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Image files that were named, and those at any depth of folders that were named, in the order of text.

    Files of other kinds in a folder are left out; a warning counts them.

    Raises:
        PursuhintError: a folder cannot be read, or holds no images.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        skipped: Counter[str] = Counter()
        inside = sorted(_images(path, str(path), skipped))
        if not inside:
            kinds = ", ".join(sorted(IMAGE_SUFFIXES))
            raise PursuhintError(f"the folder {shown(path)} holds no images ({kinds})")
        warn_of_skipped(path, skipped)
        found += map(Path, inside)
    return found


def warn_of_skipped(folder: Path, skipped: Counter[str]) -> None:
    """Say once how many files were left out, by suffix."""
    if skipped:
        kinds = ", ".join(f"{suffix} ({count})" for suffix, count in skipped.most_common(5))
        more = " ..." if len(skipped) > 5 else ""
        warn_user(
            f"{skipped.total()} files in {folder} were left out, as their kind is not read: {kinds}{more}"
        )


def _entries(folder: Path | str) -> list[os.DirEntry[str]]:
    """Entries that are not hidden and no thumbnails.

    Raises:
        PursuhintError: the folder cannot be read: its images would be missing without a word.
    """
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if entry.name[0] != "." and entry.name not in _NO_CLASSES]
    except OSError as error:
        raise PursuhintError(f"cannot read the folder {shown(folder)}: {error.strerror}") from error


def _images(folder: Path, name: str, skipped: Counter[str]) -> Iterator[str]:
    """Image files at any depth of a class folder, as paths that begin with ``name``."""
    waiting: list[tuple[str, str, frozenset[tuple[int, int]]]] = [(str(folder), name, frozenset())]
    while waiting:
        path, relative, above = waiting.pop()
        status = os.stat(path)
        identity = (status.st_dev, status.st_ino)
        if identity in above:  # a link to a folder that contains it
            continue
        for entry in _entries(path):
            inner = f"{relative}{os.sep}{entry.name}"
            if entry.is_dir():
                waiting.append((entry.path, inner, above | {identity}))
                continue
            suffix = os.path.splitext(entry.name)[1].lower()
            if suffix in IMAGE_SUFFIXES:
                yield inner
            elif entry.name.lower() not in _NO_IMAGES:
                skipped[suffix if _is_text(suffix) and suffix else "without suffix"] += 1


def _is_text(name: str) -> bool:
    return not any("\ud800" <= character <= "\udfff" for character in name)
