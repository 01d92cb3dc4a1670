"""Several runs side by side: every batch is made once and seen by the teacher once, for all students."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pursuhint._util.random_state import RandomState, keep_random_state
from pursuhint.data import ImageData
from pursuhint.errors import PursuhintError
from pursuhint.training.devices import choose_device
from pursuhint.training.events import EpochStarted, Event, ignore
from pursuhint.training.inputs import Run
from pursuhint.training.loop import READY, Position
from pursuhint.training.multi_student.shared import SharedResources, SharedTeacher
from pursuhint.training.run_folder.record import RunRecord
from pursuhint.training.run_training import run_steps
from pursuhint.training.signals import RunStopped, StopRequest, catch_signals

__all__ = ["GroupEvent", "GroupStarted", "GroupStep", "RunEnded", "train_many"]

_OWN = ("student", "teacher", "hints", "losses", "optimizer", "schedule", "epochs")
"""Sections of a recipe in which runs that share their batches may differ."""

_NOT_BEGUN = Position(-1, 0)
_STOPPED = "stopped; every run that had begun has been saved, and the same call goes on with them"


@dataclass(frozen=True)
class GroupStarted:
    """Some runs begin side by side.

    Attributes:
        runs: their places in the sequence that was passed to `train_many`.
    """

    runs: tuple[int, ...]


@dataclass(frozen=True)
class GroupStep:
    """Runs of a group have taken the same step.

    Attributes:
        runs: their places.
        epoch: from 1, over all stages.
        epochs: the most that any run of the group has.
        step: from 1.
        steps: of an epoch.
        samples: in this step, of one run and in this process.
    """

    runs: tuple[int, ...]
    epoch: int
    epochs: int
    step: int
    steps: int
    samples: int


@dataclass(frozen=True)
class RunEnded:
    """A run has come to its end.

    Attributes:
        run: its place.
        result: its record, or why it failed.
    """

    run: int
    result: RunRecord | PursuhintError


GroupEvent = GroupStarted | GroupStep | RunEnded


def train_many(
    runs: Sequence[Run],
    *,
    device: torch.device | str | None = None,
    at_once: int | None = None,
    keep_going: bool = False,
    streams: bool = False,
    on_event: Callable[[GroupEvent], None] | None = None,
) -> tuple[RunRecord | PursuhintError, ...]:
    """Train several students at the same time, on the same batches and with one pass of the teacher for all.

    Every run leaves the folder behind that `pursuhint.training.train` would have left, to the last bit on the
    CPU (with the same number of threads; wall times aside): each has random generators of its own. Runs share
    a batch if their recipes agree in everything but student, teacher, hints, losses, optimiser, schedule and
    epochs; those that do not agree follow each other. The same call on folders of interrupted runs goes on
    with them; runs that are behind catch up first. ``seconds`` in the metrics of a run are its own and its
    share of what was done for several; on a GPU, which works while others are prepared, they are approximate.

    All students of a group are in memory, and so are their optimisers and one at a time their activations.

    Args:
        runs: each with a folder of its own.
        device: where to train; None for the best there is.
        at_once: at most so many students at the same time; None for no limit.
        keep_going: if a run fails, go on with the others, and return its error in its place. Otherwise it is
            raised at once; the others keep what they have saved.
        streams: on CUDA, give each student a stream of its own, so that the GPU can run several small ones
            concurrently.
        on_event: hears of groups, of the steps that they take and of the ends of runs.

    Returns:
        The records of the runs in their order, with ``keep_going`` the error in the place of a failed one.

    Raises:
        PursuhintError: as `pursuhint.training.train`; two runs have the same folder; ``at_once`` is below 1.
        RunStopped: a signal asked to stop; every run that had begun has been saved.

    Example:
        >>> runs = [Run(recipe.override([f"losses.{loss}=1"]), Path("runs", loss)) for loss in ("at", "sp")]
        >>> at, sp = train_many(runs)
    """
    where = choose_device(device)
    folders = [Path(run.out).resolve() for run in runs]
    for folder in folders:
        if folders.count(folder) > 1:
            raise PursuhintError(f"two runs cannot have the same folder, {folder}")
    if at_once is not None and at_once < 1:
        raise PursuhintError(f"at least 1 student must train at once, got {at_once}")
    tell = on_event if on_event is not None else ignore
    records: dict[int, RunRecord | PursuhintError] = {}
    data: dict[str, ImageData] = {}
    stop = StopRequest()
    with keep_random_state(where):
        for group in _groups(runs, at_once):
            if stop.signal is not None:
                raise RunStopped(stop.signal, _STOPPED)
            shared = SharedTeacher(data)
            arms = [_Arm(place, runs[place], shared, where, stop, streams) for place in group]
            tell(GroupStarted(tuple(group)))
            with contextlib.closing(_lead(arms, shared, stop, keep_going, tell)) as ends:
                for ended in ends:
                    records[ended.run] = ended.result
                    tell(ended)
    return tuple(records[place] for place in range(len(runs)))


def _groups(runs: Sequence[Run], at_once: int | None) -> Iterator[list[int]]:
    """Places of runs that share their batches, in the order of the first of each group."""
    alike: dict[str, list[int]] = {}
    for place, run in enumerate(runs):
        values = {key: value for key, value in run.recipe.to_dict().items() if key not in _OWN}
        alike.setdefault(json.dumps([values, id(run.inputs.data)], sort_keys=True, default=str), []).append(
            place
        )
    for places in alike.values():
        size = len(places) if at_once is None else at_once
        for start in range(0, len(places), size):
            yield places[start : start + size]


def _lead(
    arms: Sequence[_Arm],
    shared: SharedTeacher,
    stop: StopRequest,
    keep_going: bool,
    tell: Callable[[GroupEvent], None],
) -> Generator[RunEnded, None, None]:
    """Take the runs to their ends, those that are behind first."""
    going, stopped = list(arms), None
    with contextlib.ExitStack() as stack:
        for arm in arms:
            stack.callback(arm.close)
        while going:
            front = min(arm.position for arm in going)
            now = [arm for arm in going if arm.position == front]
            if front == READY:
                stack.enter_context(catch_signals(stop))  # from here on there is something to save
            samples = shared.serve(front, [arm.resources for arm in now]) if front > READY else 0
            ended = []
            for arm in now:
                try:
                    record = arm.advance()
                except PursuhintError as error:
                    if not keep_going:
                        raise
                    ended.append((arm, RunEnded(arm.place, error)))
                except RunStopped as error:
                    stopped = error
                    going.remove(arm)
                else:
                    if record is not None:
                        ended.append((arm, RunEnded(arm.place, record)))
            if front > READY:
                places = tuple(arm.place for arm in now)
                epochs = max(arm.epochs for arm in arms)
                tell(GroupStep(places, front.epoch, epochs, front.step, shared.steps, samples))
            for arm, event in ended:
                going.remove(arm)
                yield event
    if stopped is not None:
        raise RunStopped(stopped.signal, _STOPPED)


class _Arm:
    """A run that is under way among others."""

    def __init__(
        self,
        place: int,
        run: Run,
        shared: SharedTeacher,
        device: torch.device,
        stop: StopRequest,
        streams: bool,
    ) -> None:
        self.place = place
        self.position = _NOT_BEGUN
        self.resources = SharedResources(shared, str(id(run.inputs.teacher)))
        self.epochs = 0
        self._told = run.on_event
        self._device = device
        self._random = RandomState.now(device)
        self._stream = torch.cuda.Stream(device) if streams and device.type == "cuda" else None
        watched = replace(run, on_event=self._hear)
        self._steps = run_steps(watched, device=device, resources=self.resources, stop=stop)

    def _hear(self, event: Event) -> None:
        if isinstance(event, EpochStarted):
            self.epochs = event.epochs
        if self._told is not None:
            self._told(event)

    def advance(self) -> RunRecord | None:
        """Go to where the run asks for its next batch, or to its end, with its own random numbers.

        Returns:
            The run's record at its end, else None.
        """
        building, record = self.position <= READY, None
        self._random.restore(self._device)
        self.resources.resume()
        try:
            with self._on_stream():
                self.position = next(self._steps)
        except StopIteration as stop:
            record = stop.value
        finally:
            self.resources.pause()
            self._random = RandomState.now(self._device)
        if self._stream is not None and (building or record is not None):
            self._stream.synchronize()  # others use what was put on the device here
        return record

    @contextlib.contextmanager
    def _on_stream(self) -> Iterator[None]:
        if self._stream is None:
            yield
            return
        self._stream.wait_stream(torch.cuda.current_stream(self._device))
        self.resources.record_stream(self._stream)
        with torch.cuda.stream(self._stream):
            yield

    def close(self) -> None:
        """Leave the run where it is; its folder is free again."""
        self._steps.close()
