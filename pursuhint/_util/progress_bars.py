"""Progress bars of work that Python code starts: rich in a terminal, tqdm in a notebook that has it."""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from pursuhint._util.distributed import is_main_process


class Bar(Protocol):
    def begin(self, text: str, total: int) -> None: ...

    def show(self, done: int, text: str) -> None: ...

    def line(self, text: str) -> None: ...

    def close(self) -> None: ...


class RichBar:
    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}", markup=False),
            TimeRemainingColumn(compact=True),
        )
        self.bars = Progress(*columns, console=Console(stderr=True), transient=True)
        self.task = self.bars.add_task("", total=None, text="")
        self.bars.start()

    def begin(self, text: str, total: int) -> None:
        self.bars.reset(self.task, description=text, total=total, text="")

    def show(self, done: int, text: str) -> None:
        self.bars.update(self.task, completed=done, text=text)

    def line(self, text: str) -> None:
        self.bars.console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self.bars.stop()


class TqdmBar:
    def __init__(self, tqdm: Any) -> None:
        self.bar = tqdm(total=0, leave=False)

    def begin(self, text: str, total: int) -> None:
        self.bar.reset(total)
        self.bar.set_description(text, refresh=False)

    def show(self, done: int, text: str) -> None:
        self.bar.set_postfix_str(text, refresh=False)
        self.bar.update(done - self.bar.n)

    def line(self, text: str) -> None:
        self.bar.write(text)

    def close(self) -> None:
        self.bar.close()


def open_bar(wanted: bool | None, *, handled: bool) -> Bar | None:
    """A bar, if it is wanted: by default where somebody looks and the caller shows no progress of its own.

    Args:
        wanted: show it, or not; None for a terminal or a notebook.
        handled: whether the caller handles the progress itself.
    """
    shown = wanted if wanted is not None else not handled and _somebody_looks()
    return _bar() if shown and is_main_process() else None


@contextlib.contextmanager
def counted(
    wanted: bool | None, also: Callable[[int, int], None] | None, text: str
) -> Iterator[Callable[[int, int], None] | None]:
    """A function of (done, total) that shows a bar, if it is wanted, and calls another one.

    Args:
        wanted: see `open_bar`.
        also: called too.
        text: beside the bar.
    """
    bar = open_bar(wanted, handled=also is not None)
    if bar is None:
        yield also
        return
    begun = 0

    def handle(done: int, total: int) -> None:
        nonlocal begun
        if begun != total:
            bar.begin(text, total)
            begun = total
        bar.show(done, "")
        if also is not None:
            also(done, total)

    try:
        yield handle
    finally:
        bar.close()


def _bar() -> Bar:
    if _in_notebook():
        with contextlib.suppress(ImportError), warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="IProgress not found")  # a bar of text does, too
            return TqdmBar(importlib.import_module("tqdm.auto").tqdm)
    return RichBar()


def _somebody_looks() -> bool:
    return _in_notebook() or bool(sys.stderr is not None and sys.stderr.isatty())


def _in_notebook() -> bool:
    """Whether the code runs in a Jupyter kernel, without importing IPython."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"
