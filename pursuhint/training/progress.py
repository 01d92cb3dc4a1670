"""Progress bars of runs that Python code starts."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from pursuhint._util.progress_bars import open_bar
from pursuhint.training.events import EpochFinished, EpochStarted, Event, LossesSoFar, StepDone


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
    bar = open_bar(wanted, handled=also is not None)
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
