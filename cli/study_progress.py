"""Progress of a study on stderr: phases, a line for each run, one bar for concurrently trained students."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pursuhint.study.events import ArmFinished, ArmLossDominated, ArmResumed, ArmsStarted, PhaseStarted
from pursuhint.training.events import HintsChosen
from pursuhint.training.multi_student.train_many import GroupStep

from .progress import TrainingProgress, clock_time

if TYPE_CHECKING:
    from pursuhint.study.events import StudyEvent

_NOTES = {
    "trained": "",
    "found": " (was there)",
    "same": " (same positions as another arm)",
}


class StudyProgress(TrainingProgress):
    """Progress of a study: a callable that takes `pursuhint.study.StudyEvent`.

    On a terminal one bar shows the progress of the students of a seed; elsewhere there is a line about them
    every ``interval`` seconds. Images are counted once for every student that sees them.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.dominated: set[tuple[str, str]] = set()

    def __call__(self, event: StudyEvent) -> None:
        if self.quiet:
            return
        match event:
            case PhaseStarted():
                self.title = ""
                self._line(f"{event.text} ...")
            case ArmsStarted():
                self._arms_started(event)
            case ArmResumed():
                self._arm_resumed(event)
            case ArmLossDominated():
                self._loss_dominated(event)
            case ArmFinished():
                self._arm_finished(event)
            case GroupStep():
                self._group_step(event)
            case HintsChosen():
                pass  # the table at the end has the positions
            case _:
                super().__call__(event)  # the events of a single run, all of which are handled there

    def _arms_started(self, event: ArmsStarted) -> None:
        self._forget_run()
        first, last = event.done + 1, event.done + len(event.arms)
        which = f"{first}" if first == last else f"{first}-{last}"
        who = event.arms[0] if len(event.arms) == 1 else f"{len(event.arms)} students together"
        self.title = f"[{which} of {event.total}] {who}, seed {event.seed}: "
        self.images = 0
        self.steps_seen = 0

    def _arm_resumed(self, event: ArmResumed) -> None:
        where = f"epoch {event.epoch}" + (f" and step {event.step} of the next" if event.step else "")
        self._line(f"{event.arm}, seed {event.seed}: resumed after {where}")
        if event.notice:
            self._line(f"{event.arm}, seed {event.seed}: {event.notice}")

    def _loss_dominated(self, event: ArmLossDominated) -> None:
        """Once for every arm and term: the seeds of an arm have the same losses."""
        if (event.arm, event.term.name) not in self.dominated:
            self.dominated.add((event.arm, event.term.name))
            self._line(f"{event.arm}, seed {event.seed}: {event.term.sentence()}")

    def _group_step(self, event: GroupStep) -> None:
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

    def _arm_finished(self, event: ArmFinished) -> None:
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
