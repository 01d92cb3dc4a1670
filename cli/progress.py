"""Progress on stderr: bars on a terminal, plain lines elsewhere, nothing with ``--quiet``."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

__all__ = ["CountProgress", "StudyProgress", "TrainingProgress", "say"]


def say(message: str, quiet: bool = False) -> None:
    """A line for the person at the terminal, on stderr."""
    if not quiet:
        print(message, file=sys.stderr, flush=True)


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


class CountProgress:
    """Progress of one long pass: a callable ``(done, total)``.

    Args:
        description: what is being done.
        unit: what is counted.
        quiet: show nothing.
        interval: seconds between lines when stderr is no terminal.
    """

    def __init__(self, description: str, *, unit: str, quiet: bool = False, interval: float = 10.0) -> None:
        self.description = description
        self.unit = unit
        self.quiet = quiet
        self.interval = interval
        self.console = Console(stderr=True)
        self.bars = _bars(self.console) if self.console.is_terminal and not quiet else None
        self.task: Any = None
        self.started = self.reported = time.monotonic()

    def __enter__(self) -> CountProgress:
        if self.bars is not None:
            self.bars.start()
            self.task = self.bars.add_task(self.description, total=None, speed="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars is not None:
            self.bars.stop()

    def __call__(self, done: int, total: int) -> None:
        now = time.monotonic()
        speed = f"{done / max(now - self.started, 1e-9):,.0f} {self.unit}/s"
        if self.bars is not None:
            self.bars.update(self.task, completed=done, total=total, speed=speed)
        elif not self.quiet and (now - self.reported >= self.interval or done == total):
            self.reported = now
            say(f"{self.description}: {done} of {total} {self.unit} ({speed})")


class TrainingProgress:
    """Progress of a training run: a callable that takes `pursuhint.training.events`.

    On a terminal a bar shows the running epoch and every finished epoch leaves one line above it; elsewhere
    there are only the lines, and no more than one every ``interval`` seconds besides the last.
    """

    def __init__(self, title: str = "", *, quiet: bool = False, interval: float = 10.0) -> None:
        self.title = title
        self.quiet = quiet
        self.interval = interval
        self.console = Console(stderr=True, highlight=False)
        self.bars = _bars(self.console) if self.console.is_terminal and not quiet else None
        self.task: Any = None
        self.reported = -interval
        self.epochs = 0
        self.steps = 0
        self.epoch = 0
        self.begun = 0
        self.started = 0.0

    def __enter__(self) -> TrainingProgress:
        if self.bars is not None:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars is not None:
            self.bars.stop()

    def __call__(self, event: Any) -> None:
        handler = getattr(self, f"_on_{type(event).__name__}", None)
        if handler is not None and not self.quiet:
            handler(event)

    def _line(self, text: str) -> None:
        if self.bars is not None:
            self.bars.console.print(text)
        else:
            say(text)

    def _on_RunStarted(self, event: Any) -> None:
        self._line(
            f"{self.title}training {event.parameters:,} parameters on {event.device} "
            f"for {event.epochs} epochs; the best epoch is chosen on the {event.chosen_on} split"
        )

    def _on_HintsChosen(self, event: Any) -> None:
        for pair in event.pairs:
            self._line(f"{self.title}hint: {pair}")

    def _on_Resumed(self, event: Any) -> None:
        self._line(f"{self.title}resumed after epoch {event.epoch}")
        if event.notice:
            self._line(f"{self.title}{event.notice}")

    def _on_EpochStarted(self, event: Any) -> None:
        if not self.begun:
            self.begun, self.started = event.epoch, time.monotonic()
        self.epoch, self.epochs, self.steps = event.epoch, event.epochs, event.steps
        if self.bars is not None:
            total = event.epochs * event.steps
            if self.task is None:
                self.task = self.bars.add_task(self.title or "training", total=total, speed="")
            self.bars.update(self.task, total=total, completed=(event.epoch - 1) * event.steps)

    def _on_StepDone(self, event: Any) -> None:
        if self.bars is not None:
            done = (self.epoch - 1) * self.steps + event.step
            seconds = time.monotonic() - self.started
            steps = done - (self.begun - 1) * self.steps
            rate = event.samples / event.step * steps / max(seconds, 1e-9)
            self.bars.update(self.task, completed=done, speed=f"{rate:,.0f} images/s")

    def _on_EpochFinished(self, event: Any) -> None:
        now = time.monotonic()
        last = self.epoch == self.epochs
        if self.bars is None and now - self.reported < self.interval and not last:
            return
        self.reported = now
        metrics = event.metrics
        split = "val" if "val_top1" in metrics else "test"
        left = (now - self.started) / (self.epoch - self.begun + 1) * (self.epochs - self.epoch)
        self._line(
            f"{self.title}epoch {self.epoch} of {self.epochs}: train loss {metrics['train_loss']:.4g}, "
            f"{split} top-1 {metrics[f'{split}_top1']:.2f} %{' (best so far)' if event.is_best else ''}, "
            f"{metrics['samples_per_second']:,.0f} images/s" + (f", {_clock(left)} left" if not last else "")
        )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class StudyProgress(TrainingProgress):
    """Progress of many runs: parts of a study, a line a run, and a bar for the epochs of the current one."""

    def _on_PhaseStarted(self, event: Any) -> None:
        self.title = ""
        self._line(f"{event.text} ...")

    def _on_ArmStarted(self, event: Any) -> None:
        self.title = f"[{event.number} of {event.total}] {event.arm}, seed {event.seed}: "
        self._forget_run()

    def _on_ArmFinished(self, event: Any) -> None:
        note = {"trained": "", "found": " (was there)", "same": " (same positions as another arm)"}
        self.title = ""
        self._line(
            f"[{event.number} of {event.total}] {event.arm}, seed {event.seed}: "
            f"test top-1 {event.top1:.2f} %{note.get(event.source, '')}"
        )
        self._forget_run()

    def _forget_run(self) -> None:
        self.begun = 0
        if self.bars is not None and self.task is not None:
            self.bars.remove_task(self.task)
        self.task = None

    def _on_RunStarted(self, event: Any) -> None:
        if not self.title:
            super()._on_RunStarted(event)

    def _on_HintsChosen(self, event: Any) -> None:
        pass  # the table at the end has the positions

    def _on_EpochFinished(self, event: Any) -> None:
        if not self.title:  # the teacher
            super()._on_EpochFinished(event)
