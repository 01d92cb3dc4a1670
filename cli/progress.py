"""Progress on stderr: bars on a terminal, plain lines elsewhere, nothing with ``--quiet``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timedelta
from types import TracebackType
from typing import Any, Self, assert_never

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from pursuhint._util.text import printable
from pursuhint.training.events import (
    EpochFinished,
    EpochStarted,
    Event,
    HintsChosen,
    LossDominated,
    LossesSoFar,
    Resumed,
    RunStarted,
    StepDone,
    TeacherMeasured,
    TeacherReplayed,
)

from .terminal import say


def _bars(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}", markup=False),
        TimeRemainingColumn(compact=True),
        console=console,
        transient=True,
    )


class CountProgress:
    """Progress of one long pass: a callable ``(done, total)``.

    Args:
        description: name of the pass.
        unit: noun of the counted items.
        quiet: show nothing.
        interval: seconds between lines when stderr is no terminal.
    """

    def __init__(self, description: str, *, unit: str, quiet: bool = False, interval: float = 10.0) -> None:
        self.description = printable(description, longest=200)
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
    """Progress of a training run: a callable that takes `pursuhint.training.Event`.

    On a terminal a bar shows the running epoch with its losses, and every finished epoch leaves one line
    above it. Elsewhere there are only lines: one for a finished epoch, but no more than one every
    ``interval`` seconds besides the last, and in long epochs one every ``long_interval`` seconds.
    """

    def __init__(
        self, title: str = "", *, quiet: bool = False, interval: float = 10.0, long_interval: float = 60.0
    ) -> None:
        self.title = printable(title, longest=200)
        self.quiet = quiet
        self.interval = interval
        self.long_interval = long_interval
        self.console = Console(stderr=True, highlight=False)
        self.bars = _bars(self.console) if self.console.is_terminal and not quiet else None
        self.task: Any = None
        self.reported = -interval
        self.epochs = 0
        self.steps = 0
        self.epoch = 0
        self.begun = 0
        self.started = 0.0
        self.first: int | None = None
        self.losses = ""

    def __enter__(self) -> Self:
        if self.bars is not None:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.bars is not None:
            self.bars.stop()

    def __call__(self, event: Event) -> None:
        if self.quiet:
            return
        match event:
            case TeacherMeasured():
                self._line(f"{self.title}{event.accuracy.line()}")
            case TeacherReplayed():
                self._line(f"{self.title}{event.use.line()}")
            case RunStarted():
                self._run_started(event)
            case HintsChosen():
                self._hints_chosen(event)
            case Resumed():
                self._resumed(event)
            case EpochStarted():
                self._epoch_started(event)
            case StepDone():
                self._step_done(event)
            case LossesSoFar():
                self.losses = f", loss {_terms(event.losses)}"
            case LossDominated():
                self._line(f"{self.title}{event.term.sentence()}")
            case EpochFinished():
                self._epoch_finished(event)
            case _:
                assert_never(event)

    def _line(self, text: str) -> None:
        if self.bars is not None:
            self.bars.console.print(Text(printable(text)))
        else:
            say(text)

    def _run_started(self, event: RunStarted) -> None:
        epochs = "1 epoch" if event.epochs == 1 else f"{event.epochs} epochs"
        self._line(
            f"{self.title}training {event.parameters:,} parameters on {event.device} "
            f"for {epochs}; the best epoch is chosen on the {event.chosen_on} split"
        )
        self._line(f"{self.title}{event.images}")

    def _hints_chosen(self, event: HintsChosen) -> None:
        for pair in event.pairs:
            self._line(f"{self.title}hint: {pair}")

    def _resumed(self, event: Resumed) -> None:
        step = f" and step {event.step} of the next" if event.step else ""
        self._line(f"{self.title}resumed after epoch {event.epoch}{step}")
        if event.notice:
            self._line(f"{self.title}{event.notice}")

    def _epoch_started(self, event: EpochStarted) -> None:
        if not self.begun:
            self.begun, self.first = event.epoch, None
        self.epoch, self.epochs, self.steps = event.epoch, event.epochs, event.steps
        self.losses = ""
        if self.bars is not None:
            total = event.epochs * event.steps
            if self.task is None:
                self.task = self.bars.add_task("", total=total, speed="")
            name = f"{self.title}epoch {event.epoch} of {event.epochs}"
            self.bars.update(self.task, total=total, description=name)

    def _step_done(self, event: StepDone) -> None:
        now = time.monotonic()
        done = (self.epoch - 1) * self.steps + event.step
        if self.first is None:  # the first step warms up, and is not timed
            self.first, self.started = done, now
        rate = (done - self.first) / max(now - self.started, 1e-9)  # steps a second
        speed = f"{rate * event.samples / event.step:,.0f} images/s"
        if self.bars is not None:
            self.bars.update(self.task, completed=done, speed=f"{speed}{self.losses}")
        elif event.step < event.steps and now - max(self.reported, self.started) >= self.long_interval:
            self.reported = now
            self._line(
                f"{self.title}epoch {self.epoch} of {self.epochs}, step {event.step} of {event.steps}"
                f"{self.losses}, {speed}{self._end(done)}"
            )

    def _epoch_finished(self, event: EpochFinished) -> None:
        now = time.monotonic()
        last = self.epoch == self.epochs
        if self.bars is None and now - self.reported < self.interval and not last:
            return
        self.reported = now
        metrics = event.metrics
        split = "val" if "val_top1" in metrics else "test"
        losses = {
            key.removeprefix("train_"): value
            for key, value in metrics.items()
            if key.startswith("train_") and key != "train_top1"
        }
        best = " (best so far)" if event.is_best else ""
        result = f"{split} top-1 {metrics[f'{split}_top1']:.2f} %{best}"
        if metrics["stage"] != "main":  # nothing has trained the classifier yet
            result = f"stage {metrics['stage']}{_kept(metrics)}"
        self._line(
            f"{self.title}epoch {self.epoch} of {self.epochs}: train loss {_terms(losses)}, {result}, "
            f"{metrics['samples_per_second']:,.0f} images/s{self._end(self.epoch * self.steps)}"
        )

    def _end(self, done: int) -> str:
        """The remaining time, and the time of day at which the run will end."""
        left = self.epochs * self.steps - done
        if not left or self.first is None or done <= self.first:
            return ""
        seconds = left * (time.monotonic() - self.started) / (done - self.first)
        end = datetime.now() + timedelta(seconds=seconds)
        return f", {clock_time(seconds)} left, until {end:{'%H:%M' if seconds < 43200 else '%d %B %H:%M'}}"


def _kept(metrics: Mapping[str, Any]) -> str:
    """How good nearest class means are in a stage that keeps its best student, and which one that is."""
    text = "".join(
        f", nearest means {value:.2f} % of {key.removeprefix('nearest_mean_')} images"
        for key, value in metrics.items()
        if key.startswith("nearest_mean_")
    )
    kept = metrics.get("kept_epoch")
    return text if kept is None else f"{text}, the student of epoch {kept} is kept"


def _terms(losses: Mapping[str, float]) -> str:
    """The total loss, with its terms if there is more than one."""
    terms = [f"{name} {value:.4g}" for name, value in losses.items() if name != "loss"]
    total = f"{losses['loss']:.4g}"
    return total if len(terms) < 2 else f"{total} ({', '.join(terms)})"


def clock_time(seconds: float) -> str:
    """``1:02:03``, or ``2:03`` below an hour."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
