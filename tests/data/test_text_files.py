"""Labelled texts in the formats that are read, and what is wrong with files in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pursuhint.data import check_dataset_name, load_dataset
from pursuhint.data.text_files import read_texts
from pursuhint.errors import PursuhintError

SAMPLES = [("b", 'a "quoted", text'), ("a", "ünïcode"), ("b", "")]


def write(path: Path, samples: list[tuple[str, str]]) -> Path:
    """The samples as a table of the kind that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".jsonl":
        lines = [json.dumps({"text": text, "label": label, "more": 1}) for label, text in samples]
    elif path.suffix == ".tsv":
        lines = ["text\tLabel", *(f"{text}\t{label}" for label, text in samples)]
    else:
        quoted = [(label, text.replace('"', '""')) for label, text in samples]
        lines = ["label,id,text", *(f'{label},1,"{text}"' for label, text in quoted)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl"])
def test_tables(ending: str, tmp_path: Path) -> None:
    assert read_texts(write(tmp_path / f"some{ending}", SAMPLES)) == {"train": SAMPLES}


def test_folders_of_tables_and_of_texts(tmp_path: Path) -> None:
    write(tmp_path / "Train.csv", SAMPLES)
    write(tmp_path / "dev.jsonl", SAMPLES[:1])
    for name, text in (("b", "two"), ("a", "one")):
        (tmp_path / "test" / name).mkdir(parents=True)
        (tmp_path / "test" / name / "0.txt").write_text(text)
    found = read_texts(tmp_path)
    assert found == {"train": SAMPLES, "val": SAMPLES[:1], "test": [("a", "one"), ("b", "two")]}
    assert read_texts(tmp_path / "test") == {"train": found["test"]}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.csv", b"name,text\na,b\n", "must have the columns label and text"),
        ("x.csv", b"", "it has none"),
        ("x.csv", b"label,text\n", "has no samples"),
        ("x.tsv", b"label\ttext\na\n", "line 2: no label or no text"),
        ("x.csv", b"label,text\n,b\n", "line 2: no label or no text"),
        ("x.csv", b"label,text\na,\xff\n", "is not UTF-8"),
        ("x.jsonl", b'{"label": 1}\n', "line 1: expected"),
        ("x.jsonl", b'{"label": true, "text": "a"}\n', "line 1: expected"),
        ("x.jsonl", b"[1\n", "line 1: expected"),
        ("x.txt", b"a", "must end in .csv"),
    ],
    ids=["columns", "empty", "header", "short", "no-label", "bytes", "no-text", "bool", "json", "ending"],
)
def test_damaged_tables_are_one_line(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(PursuhintError, match=message) as raised:
        read_texts(tmp_path / name)
    assert "\n" not in str(raised.value)


def test_folders_that_hold_something_else(tmp_path: Path) -> None:
    with pytest.raises(PursuhintError, match="no file or folder"):
        read_texts(tmp_path / "none")
    write(tmp_path / "two" / "train.csv", SAMPLES)
    write(tmp_path / "two" / "training.tsv", SAMPLES)
    with pytest.raises(PursuhintError, match="which is the train split"):
        read_texts(tmp_path / "two")
    write(tmp_path / "late" / "test.csv", SAMPLES)
    with pytest.raises(PursuhintError, match=r"must hold train .*; it holds test\.csv"):
        read_texts(tmp_path / "late")
    (tmp_path / "void" / "train").mkdir(parents=True)
    with pytest.raises(PursuhintError, match="has no texts"):
        read_texts(tmp_path / "void")


def test_names_of_texts() -> None:
    assert check_dataset_name("text:some/where") == "text:PATH"
    for name in ("text:", "text:PATH"):
        with pytest.raises(PursuhintError, match="needs the path"):
            check_dataset_name(name)
    with pytest.raises(PursuhintError, match="load_text"):
        load_dataset("text:some/where")
