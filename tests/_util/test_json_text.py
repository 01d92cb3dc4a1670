from __future__ import annotations

from pathlib import Path

import pytest

from pursuhint._util.atomic_files import read_json, write_json
from pursuhint._util.json_text import parse_json
from pursuhint.errors import PursuhintError


def test_plain_documents(tmp_path: Path) -> None:
    value = {"a": [1, -2.5, None, True, "ä"], "b": {"c": 2**63}, "deep": [[[[[1]]]]]}
    write_json(tmp_path / "x.json", value)
    assert read_json(tmp_path / "x.json", "plan") == value
    text = (tmp_path / "x.json").read_bytes()
    (tmp_path / "windows.json").write_bytes(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"))
    assert read_json(tmp_path / "windows.json", "plan") == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[" * 100_000, "nested more than 64 levels"),
        ("[" * 100 + "]" * 100, "nested more than 64 levels"),
        ('{"a":' * 100 + "1" + "}" * 100, "nested more than 64 levels"),
        ("9" * 5000, "an integer of 5000 digits"),
        ("-" + "9" * 21, "an integer of 22 digits"),
        ("{", "Expecting property name"),
    ],
)
def test_documents_that_no_program_of_ours_writes(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_json(text)
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(PursuhintError, match=rf"the plan .*x\.json is not valid JSON \({message}") as caught:
        read_json(tmp_path / "x.json", "plan")
    assert "\n" not in str(caught.value)
