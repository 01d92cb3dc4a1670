from __future__ import annotations

import os
from pathlib import Path

import pytest

from pursuhint._util.input_files import open_regular, read_bounded, read_text
from pursuhint.errors import PursuhintError


def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for name in ("pipe", "zero"):
        with pytest.raises(PursuhintError, match=r"cannot read the recipe .* a pipe or a device"):
            open_regular(tmp_path / name, "recipe")
    with pytest.raises(PursuhintError, match="is a folder; give the recipe file in it"):
        open_regular(tmp_path, "recipe")
    with pytest.raises(PursuhintError, match=r"no recipe at .*; the file does not exist"):
        open_regular(tmp_path / "none", "recipe")
    with pytest.raises(PursuhintError, match="cannot read the recipe"):
        open_regular(f"{tmp_path}/a\0b", "recipe")
    with pytest.raises(PursuhintError, match=r"cannot read the recipe .*: File name too long"):
        open_regular(tmp_path / ("n" * 300), "recipe")


def test_larger_files_than_allowed_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(10))
    assert read_bounded(tmp_path / "file", "plan", largest=10) == bytes(10)
    with pytest.raises(PursuhintError, match=r"the plan .* is larger than 9 bytes"):
        read_bounded(tmp_path / "file", "plan", largest=9)


def test_text_of_a_windows_editor_is_the_same_text(tmp_path: Path) -> None:
    (tmp_path / "unix").write_bytes("k: ä\nl: 2\n".encode())
    (tmp_path / "windows").write_bytes(b"\xef\xbb\xbf" + "k: ä\r\nl: 2\r\n".encode())
    unix, windows = (read_text(tmp_path / name, "plan", largest=99) for name in ("unix", "windows"))
    assert unix == windows == "k: ä\nl: 2\n"
    (tmp_path / "latin").write_bytes("ä".encode("latin-1"))
    with pytest.raises(PursuhintError, match=r"the plan .* is not UTF-8 text"):
        read_text(tmp_path / "latin", "plan", largest=99)
