"""Studies that Python code starts: their progress bar, and what is put back when they end."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from pursuhint._util.progress_bars import open_bar
from pursuhint._util.random_state import keep_random_state
from pursuhint.losses.passed import losses_passed
from pursuhint.study.events import ArmFinished, ArmsStarted, PhaseStarted, StudyEvent, Watcher
from pursuhint.study.study import StudyOptions
from pursuhint.training.multi_student.train_many import GroupStep
from pursuhint.training.own_parts import OwnParts


@contextlib.contextmanager
def study_under_way(options: StudyOptions, own: OwnParts, progress: bool | None) -> Iterator[StudyOptions]:
    """The options with a progress bar; random numbers and known losses are put back at the end.

    Args:
        options: how to train.
        own: losses that are known by name meanwhile.
        progress: see `pursuhint.training.progress.shown`.
    """
    with (
        keep_random_state(options.device),
        losses_passed(own.kinds()),
        shown_study(progress, options.on_event) as watch,
    ):
        yield dataclasses.replace(options, on_event=watch)


@contextlib.contextmanager
def shown_study(wanted: bool | None, also: Watcher | None) -> Iterator[Watcher | None]:
    """A handler that shows a bar for the students of a seed and a line for every run, and calls another.

    Args:
        wanted: see `pursuhint.training.progress.shown`.
        also: called with every event.
    """
    bar = open_bar(wanted, handled=also is not None)
    if bar is None:
        yield also
        return
    begun = ""

    def handle(event: StudyEvent) -> None:
        nonlocal begun
        match event:
            case PhaseStarted():
                bar.line(f"{event.text} ...")
            case ArmsStarted():
                who = event.arms[0] if len(event.arms) == 1 else f"{len(event.arms)} students"
                begun = f"{who}, seed {event.seed} ({event.done} of {event.total} runs finished)"
            case GroupStep():
                if begun:
                    bar.begin(begun, event.epochs * event.steps)
                    begun = ""
                bar.show((event.epoch - 1) * event.steps + event.step, f"epoch {event.epoch}")
            case ArmFinished():
                result = "failed" if event.top1 is None else f"test top-1 {event.top1:.2f} %"
                bar.line(f"{event.number} of {event.total}: {event.arm}, seed {event.seed}: {result}")
        if also is not None:
            also(event)

    try:
        yield handle
    finally:
        bar.close()
