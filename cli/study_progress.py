"""Progress of a study on stderr: its parts, a line for every run, and one bar for all that train together."""

from __future__ import annotations

import time
from typing import Any

from .progress import TrainingProgress, clock_time

_NOTES = {
    "trained": "",
    "found": " (was there)",
    "same": " (same positions as another arm)",
}


class StudyProgress(TrainingProgress):
    """A callable that takes `pursuhint.study.events`, and what is told of runs that train side by side.

    On a terminal one bar shows how far the students of a seed are; elsewhere there is a line about them every
    ``interval`` seconds. Images are counted once for every student that sees them.
    """

    def _on_PhaseStarted(self, event: Any) -> None:
        self.title = ""
        self._line(f"{event.text} ...")

    def _on_ArmsStarted(self, event: Any) -> None:
        self._forget_run()
        first, last = event.done + 1, event.done + len(event.arms)
        which = f"{first}" if first == last else f"{first}-{last}"
        who = event.arms[0] if len(event.arms) == 1 else f"{len(event.arms)} students together"
        self.title = f"[{which} of {event.total}] {who}, seed {event.seed}: "
        self.images = 0
        self.steps_seen = 0

    def _on_ArmResumed(self, event: Any) -> None:
        where = f"epoch {event.epoch}" + (f" and step {event.step} of the next" if event.step else "")
        self._line(f"{event.arm}, seed {event.seed}: resumed after {where}")
        if event.notice:
            self._line(f"{event.arm}, seed {event.seed}: {event.notice}")

    def _on_GroupStep(self, event: Any) -> None:
        now = time.monotonic()
        done, total = (event.epoch - 1) * event.steps + event.step, event.epochs * event.steps
        if not self.steps_seen:
            self.started, self.begun = now, done  # the first step is not timed
        else:
            self.images += event.samples * len(event.runs)
        self.steps_seen += 1
        seconds = now - self.started
        rate = f"{self.images / max(seconds, 1e-9):,.0f} images/s"
        if self.bars is not None:
            if self.task is None:
                self.task = self.bars.add_task(self.title.removesuffix(": "), total=total, speed="")
            self.bars.update(self.task, completed=done, total=total, speed=rate)
        elif seconds and now - self.reported >= self.interval:
            self.reported = now
            left = seconds / max(done - self.begun, 1) * (total - done)
            self._line(f"{self.title}epoch {event.epoch} of {event.epochs}, {rate}, {clock_time(left)} left")

    def _on_ArmFinished(self, event: Any) -> None:
        result = "failed" if event.top1 is None else f"test top-1 {event.top1:.2f} %"
        self._line(
            f"[{event.number} of {event.total}] {event.arm}, seed {event.seed}: "
            f"{result}{_NOTES.get(event.source, '')}"
        )

    def _forget_run(self) -> None:
        self.begun = 0
        if self.bars is not None and self.task is not None:
            self.bars.remove_task(self.task)
        self.task = None

    def _on_HintsChosen(self, event: Any) -> None:
        pass  # the table at the end has the positions
