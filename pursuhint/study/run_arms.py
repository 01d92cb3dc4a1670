"""The runs of a study: all arms of a seed side by side, with one teacher pass for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pursuhint._util.random_state import keep_random_state
from pursuhint.errors import PursuhintError
from pursuhint.study.arms import arm_folder
from pursuhint.study.events import ArmFinished, ArmLossDominated, ArmResumed, ArmsStarted, Watcher
from pursuhint.study.recordings import announce_recordings, with_recordings
from pursuhint.study.run_key import RunKey
from pursuhint.training.events import Event, LossDominated, Resumed
from pursuhint.training.multi_student.train_many import (
    GroupEvent,
    GroupStep,
    RunEnded,
    train_many,
)

if TYPE_CHECKING:
    from pathlib import Path

    import torch

    from pursuhint.training.inputs import Run
    from pursuhint.training.run_folder.record import RunRecord


@dataclass(frozen=True)
class GroupOptions:
    """How `pursuhint.training.train_many` trains the runs.

    Attributes:
        device: where to train.
        at_once: the largest number of students that train concurrently; None for no limit.
        streams: on CUDA, one stream per student.
        keep_going: if a run fails, continue the others.
        record_teacher: folder that holds a recording of the teacher for every seed; None to record nothing.
    """

    device: torch.device
    at_once: int | None
    streams: bool
    keep_going: bool
    record_teacher: Path | None = None


def check_seeds(seeds: Sequence[int]) -> None:
    """Check the seeds of a study.

    Raises:
        PursuhintError: there are none, or one is repeated.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise PursuhintError(f"a study needs at least one seed, and each once, got {list(seeds)}")


def run_folder(arm: str, seed: int) -> str:
    """The folder of a run, relative to the folder of the study."""
    return f"arms/{arm_folder(arm)}/seed-{seed}"


def train_arms(
    runs: Mapping[RunKey, Run], *, same: Mapping[RunKey, RunKey], options: GroupOptions, watch: Watcher
) -> dict[RunKey, RunRecord | PursuhintError]:
    """Train the runs that are not finished.

    Args:
        runs: in the order in which they are counted.
        same: keys of runs that equal another one, with the key of that one; counted right after it.
        options: how to train.
        watch: receives `pursuhint.study.StudyEvent`.

    Returns:
        For every key, those of ``same`` included, the record of the run or the error that it failed with.

    Raises:
        PursuhintError: as `pursuhint.training.train_many`; or there is no room for the recordings.
    """
    if options.record_teacher is not None:
        runs = with_recordings(runs, options.record_teacher)
        with keep_random_state(options.device):
            announce_recordings(runs, options.record_teacher, watch)
    translator = _EventTranslator(runs, same, watch)
    ended = train_many(
        [replace(run, on_event=translator.receiver(key)) for key, run in runs.items()],
        device=options.device,
        at_once=options.at_once,
        streams=options.streams,
        keep_going=options.keep_going,
        on_event=translator,
    )
    results = dict(zip(runs, ended, strict=True))
    return results | {key: results[other] for key, other in same.items()}


class _EventTranslator:
    """Translates events about runs by index into events about arms and seeds."""

    def __init__(self, runs: Mapping[RunKey, Run], same: Mapping[RunKey, RunKey], watch: Watcher) -> None:
        self._keys = list(runs)
        self._same = same
        self._watch = watch
        self._found = {key for key, run in runs.items() if (run.out / "result.json").exists()}
        self._total = len(runs) + len(same)
        self._ended = 0

    def receiver(self, key: RunKey) -> Callable[[Event], None]:
        """The event handler of one run. Of its events only `Resumed` and `LossDominated` are passed on."""

        def receive(event: Event) -> None:
            if isinstance(event, Resumed):
                self._watch(ArmResumed(*key, event.epoch, event.step, event.notice))
            elif isinstance(event, LossDominated):
                self._watch(ArmLossDominated(*key, event.term))

        return receive

    def __call__(self, event: GroupEvent) -> None:
        if isinstance(event, RunEnded):
            self._send_end(self._keys[event.run], event.result)
        elif isinstance(event, GroupStep):
            self._watch(event)
        else:
            # A group also lists runs that are finished already; only the others train.
            keys = [self._keys[run] for run in event.runs if self._keys[run] not in self._found]
            if keys:
                arms = tuple(key.arm for key in keys)
                # All runs of a group have the same seed, since runs of different seeds share no batches.
                self._watch(ArmsStarted(arms, keys[0].seed, self._ended, self._total))

    def _send_end(self, key: RunKey, result: RunRecord | PursuhintError) -> None:
        top1 = None if isinstance(result, PursuhintError) else result.last["test_top1"]
        source = "found" if key in self._found else "trained" if top1 is not None else "failed"
        copies = [other for other, first in self._same.items() if first == key]
        for arm, seed in (key, *copies):
            self._ended += 1
            how = source if (arm, seed) == key else "same"
            self._watch(ArmFinished(arm, seed, self._ended, self._total, top1, how))
