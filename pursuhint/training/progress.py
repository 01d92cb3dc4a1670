"""Progress bars of runs that Python code starts: rich in a terminal, tqdm in a notebook that has it."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from pursuhint.training.events import EpochFinished, EpochStarted, Event, LossesSoFar, StepDone


class _Bar(Protocol):
    def begin(self, text: str, total: int) -> None: ...

    def show(self, done: int, text: str) -> None: ...

    def line(self, text: str) -> None: ...

    def close(self) -> None: ...


class _RichBar:
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


class _TqdmBar:
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


@contextlib.contextmanager
def shown(
    wanted: bool | None, also: Callable[[Event], None] | None
) -> Iterator[Callable[[Event], None] | None]:
    """A handler of events that shows a bar for every epoch and a line at its end, and calls another one.

    Args:
        wanted: False shows nothing. None shows bars where nobody else handles the events, and where people
            look: in a terminal or a notebook.
        also: called with every event.
    """
    bar = _bar() if wanted or (wanted is None and also is None and _somebody_looks()) else None
    if bar is None:
        yield also
        return
    losses = ""
    epochs = 0

    def handle(event: Event) -> None:
        nonlocal losses, epochs
        match event:
            case EpochStarted():
                epochs = event.epochs
                bar.begin(f"epoch {event.epoch} of {event.epochs}", event.steps)
            case LossesSoFar():
                losses = f"loss {event.losses['loss']:.4g}"
            case StepDone():
                bar.show(event.step, losses)
            case EpochFinished():
                found = event.metrics
                split = "val" if "val_top1" in found else "test"
                top1 = f", {split} top-1 {found[f'{split}_top1']:.2f} %" if f"{split}_top1" in found else ""
                bar.line(f"epoch {found['epoch']} of {epochs}: loss {found['train_loss']:.4g}{top1}")
        if also is not None:
            also(event)

    try:
        yield handle
    finally:
        bar.close()


def _bar() -> _Bar:
    if _in_notebook():
        with contextlib.suppress(ImportError):
            return _TqdmBar(importlib.import_module("tqdm.auto").tqdm)
    return _RichBar()


def _somebody_looks() -> bool:
    return _in_notebook() or bool(sys.stderr is not None and sys.stderr.isatty())


def _in_notebook() -> bool:
    """Whether the code runs in a Jupyter kernel, without importing IPython."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return type(shell).__name__ == "ZMQInteractiveShell"
