"""Bars are shown where they are wanted, and nowhere else."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest

from pursuhint._util import progress_bars
from pursuhint._util.progress_bars import counted


def test_a_bar_is_not_shown_without_somebody_who_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with counted(None, None, "images") as watch:
        assert watch is None
    with counted(False, None, "images") as watch:
        assert watch is None
    assert capsys.readouterr().err == ""


def test_other_handlers_are_called_beside_the_bar() -> None:
    seen: list[tuple[int, int]] = []
    with counted(True, lambda done, total: seen.append((done, total)), "images") as watch:
        assert watch is not None
        for done in (5, 9):
            watch(done, 9)
    assert seen == [(5, 9), (9, 9)]


def test_who_handles_progress_gets_no_bar_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_bars, "_somebody_looks", lambda: True)

    def own(done: int, total: int) -> None: ...

    with counted(None, own, "images") as watch:
        assert watch is own
    with counted(None, None, "images") as watch:
        assert watch is not None


def test_a_notebook_gets_the_bar_of_tqdm(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    class Tqdm:
        n = 0

        def __init__(self, **options: Any) -> None:
            made.append(self)

        def __getattr__(self, name: str) -> Any:
            return lambda *arguments, **options: None

        def update(self, number: int) -> None:
            self.n += number

    shell = type("ZMQInteractiveShell", (), {})()
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace(get_ipython=lambda: shell))
    monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=Tqdm))
    with counted(None, None, "images") as watch:
        assert watch is not None
        watch(3, 7)
    assert [bar.n for bar in made] == [3]
