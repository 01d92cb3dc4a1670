"""Labelled texts on the disk: CSV, TSV and JSON lines, or one folder a class with a file a text."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from pursuhint.errors import PursuhintError

__all__: list[str] = []

_TABLES = (".csv", ".tsv", ".jsonl")
_LABEL, _TEXT = "label", "text"

_ROLES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "train": ("train", "training"),
        "val": ("val", "valid", "validation", "dev"),
        "test": ("test", "testing"),
    }
)
"""Names of the files or folders of each split; case does not matter."""

LabelledTexts = list[tuple[str, str]]


def read_texts(path: Path) -> dict[str, LabelledTexts]:
    """Labels and texts of every split.

    Args:
        path: a table, which is the training split; or a folder with ``train``, and ``test`` or ``val`` or
            both, each a table or a folder with one folder a class. A folder of class folders is the training
            split.

    Returns:
        (label, text) of each sample by the name of the split, in the order of the file or of sorted names.

    Raises:
        PursuhintError: there is no such file or folder, it cannot be read, or it has no labels or texts.
    """
    if path.is_file():
        return {"train": _table(path)}
    if not path.is_dir():
        raise PursuhintError(
            f"no file or folder {path}; text:PATH needs a {', '.join(_TABLES)} file with the columns "
            f"{_LABEL} and {_TEXT}, or a folder with train and test"
        )
    found: dict[str, Path] = {}
    for entry in sorted(path.iterdir()):
        name = entry.stem if entry.suffix.lower() in _TABLES else entry.name
        for role, known in _ROLES.items():
            if name.lower() in known and (entry.is_dir() or entry.suffix.lower() in _TABLES):
                if role in found:
                    raise PursuhintError(
                        f"{path} holds {found[role].name} and {entry.name}; which is the {role} split?"
                    )
                found[role] = entry
    if not found and any(entry.is_dir() for entry in path.iterdir()):
        return {"train": _folder(path)}
    if "train" not in found:
        held = ", ".join(sorted(entry.name for entry in path.iterdir())[:5]) or "nothing"
        raise PursuhintError(
            f"{path} must hold train ({', '.join(f'train{ending}' for ending in _TABLES)}, or train/ with "
            f"one folder a class); it holds {held}"
        )
    return {role: _table(entry) if entry.is_file() else _folder(entry) for role, entry in found.items()}


def _table(path: Path) -> LabelledTexts:
    """The samples of a table.

    Raises:
        PursuhintError: it has another ending, columns or encoding, or a line without a label or text.
    """
    if path.suffix.lower() not in _TABLES:
        raise PursuhintError(f"{path} must end in {', '.join(_TABLES)}")
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(_json_rows(path, file) if path.suffix.lower() == ".jsonl" else _rows(path, file))
    except UnicodeDecodeError as error:
        raise PursuhintError(f"{path} is not UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise PursuhintError(f"cannot read {path}: {error.strerror}") from error
    except csv.Error as error:
        raise PursuhintError(f"{path} is no table: {error}") from None
    if not rows:
        raise PursuhintError(f"{path} has no samples")
    return rows


def _rows(path: Path, file: Iterator[str]) -> Iterator[tuple[str, str]]:
    """Lines of a CSV or TSV with a header; in a TSV quotation marks are part of the text."""
    tabs = path.suffix.lower() == ".tsv"
    reader = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if tabs else csv.reader(file)
    header = [name.strip().lower() for name in next(reader, [])]
    if _LABEL not in header or _TEXT not in header:
        raise PursuhintError(
            f"{path} must have the columns {_LABEL} and {_TEXT} in its first line; it has "
            f"{', '.join(header[:5]) or 'none'}"
        )
    label, text = header.index(_LABEL), header.index(_TEXT)
    for row in reader:
        if row:
            if len(row) <= max(label, text) or not row[label].strip():
                raise PursuhintError(f"{path}, line {reader.line_num}: no {_LABEL} or no {_TEXT}")
            yield row[label].strip(), row[text]


def _json_rows(path: Path, file: Iterator[str]) -> Iterator[tuple[str, str]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            label, text = values[_LABEL], values[_TEXT]
        except (ValueError, KeyError, TypeError):
            label = text = None
        if not isinstance(text, str) or isinstance(label, bool) or not isinstance(label, str | int):
            raise PursuhintError(
                f'{path}, line {number}: expected {{"{_LABEL}": ..., "{_TEXT}": "..."}} with a text or whole '
                "number as label"
            )
        yield str(label), text


def _folder(path: Path) -> LabelledTexts:
    """One text a file, one folder a class."""
    found = []
    for kind in sorted(entry for entry in path.iterdir() if entry.is_dir() and entry.name[0] != "."):
        for file in sorted(kind.rglob("*.txt")):
            try:
                found.append((kind.name, file.read_text(encoding="utf-8")))
            except UnicodeDecodeError as error:
                raise PursuhintError(f"{file} is not UTF-8 (byte {error.start})") from None
            except OSError as error:
                raise PursuhintError(f"cannot read {file}: {error.strerror}") from error
    if not found:
        raise PursuhintError(f"{path} has no texts: it needs one folder a class, with .txt files in it")
    return found
