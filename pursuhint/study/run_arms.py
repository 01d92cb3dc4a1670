"""The runs of a study: all arms of a seed side by side, with one teacher pass for all of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from pursuhint.errors import PursuhintError
from pursuhint.study.arms import arm_folder
from pursuhint.study.events import ArmFinished, ArmResumed, ArmsStarted, Watcher
from pursuhint.training.events import Event, Resumed
from pursuhint.training.multi_student.train_many import (
    GroupEvent,
    GroupStep,
    RunEnded,
    train_many,
)

if TYPE_CHECKING:
    import torch

    from pursuhint.training.inputs import Run
    from pursuhint.training.run_folder.record import RunRecord

RunKey = tuple[str, int]
"""An arm and a seed."""


def check_seeds(seeds: Sequence[int]) -> None:
    """Refuse no seeds, and the same one twice.

    Raises:
        PursuhintError: either.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise PursuhintError(f"a study needs at least one seed, and each once, got {list(seeds)}")


def run_folder(arm: str, seed: int) -> str:
    """The folder of a run, relative to the study's."""
    return f"arms/{arm_folder(arm)}/seed-{seed}"


def train_arms(
    planned: Mapping[RunKey, Run],
    *,
    same: Mapping[RunKey, RunKey],
    device: torch.device,
    at_once: int | None,
    streams: bool,
    keep_going: bool,
    watch: Watcher,
) -> dict[RunKey, RunRecord | PursuhintError]:
    """Train what is not there yet.

    Args:
        planned: the runs by arm and seed, in the order in which they are counted.
        same: arms that are the same run as another one, by what they are the same as; counted after it.
        device: where to train.
        at_once: at most so many students at the same time.
        streams: see `pursuhint.training.train_many`.
        keep_going: what a failed run does to the others; likewise.
        watch: hears of `pursuhint.study.events` and of `pursuhint.training.GroupStep`.

    Returns:
        By arm and seed, those that are the same included, the record of the run or why it failed.

    Raises:
        PursuhintError: as `pursuhint.training.train_many`.
    """
    places = list(planned)
    telling = _Telling(planned, same, watch)
    ended = train_many(
        [replace(run, on_event=telling.watcher(place)) for place, run in planned.items()],
        device=device,
        at_once=at_once,
        streams=streams,
        keep_going=keep_going,
        on_event=telling,
    )
    results = dict(zip(places, ended, strict=True))
    return results | {place: results[other] for place, other in same.items()}


class _Telling:
    """Turns what is told about runs by their place into what is told about arms and seeds."""

    def __init__(self, planned: Mapping[RunKey, Run], same: Mapping[RunKey, RunKey], watch: Watcher) -> None:
        self._places = list(planned)
        self._same = same
        self._watch = watch
        self._found = {place for place, run in planned.items() if (run.out / "result.json").exists()}
        self._total = len(planned) + len(same)
        self._there = 0

    def watcher(self, place: RunKey) -> Callable[[Event], None]:
        """What hears of the events of one run."""

        def hear(event: Event) -> None:
            if isinstance(event, Resumed):
                self._watch(ArmResumed(*place, event.epoch, event.step, event.notice))

        return hear

    def __call__(self, event: GroupEvent) -> None:
        if isinstance(event, RunEnded):
            self._tell_end(self._places[event.run], event.result)
        elif isinstance(event, GroupStep):
            self._watch(event)
        else:
            arms = [self._places[run] for run in event.runs if self._places[run] not in self._found]
            if arms:
                names, seeds = tuple(arm for arm, _ in arms), {seed for _, seed in arms}
                for seed in seeds:  # one, since runs of different seeds share no batches
                    self._watch(ArmsStarted(names, seed, self._there, self._total))

    def _tell_end(self, place: RunKey, result: RunRecord | PursuhintError) -> None:
        top1 = None if isinstance(result, PursuhintError) else result.last["test_top1"]
        source = "found" if place in self._found else "trained" if top1 is not None else "failed"
        alike = [other for other, first in self._same.items() if first == place]
        for number, (arm, seed) in enumerate([place, *alike]):
            self._there += 1
            self._watch(ArmFinished(arm, seed, self._there, self._total, top1, "same" if number else source))
