"""Train several students on the same batches, with one teacher pass for all of them.

Every run is the generator `run_steps`, which pauses before it requests its next batch. The leader advances
all runs that wait at the same position, so each batch is loaded, augmented and seen by the teacher once::

    leader (_lead)            run 1 (run_steps)        run 2 (run_steps)
    --------------            -----------------        -----------------
    position p is due   <---- yield p                  yield p
    SharedTeacher.serve(p)    (paused)                 (paused)
      batch, teacher features
      |-> SharedResources 1
      `-> SharedResources 2
    restore RNG state 1
    next(run 1)         ----> forward, backward, step
    save RNG state 1    <---- yield p + 1
    restore RNG state 2
    next(run 2)         ---------------------------->  forward, backward, step
    save RNG state 2    <----------------------------  yield p + 1
    position p + 1 is due ...

Swapping the global random generators around each advance gives every run the numbers that it would draw
alone. A run that is behind (resumed from an older state) is advanced by itself until it has caught up.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from pursuhint._util.devices import choose_device
from pursuhint._util.random_state import RandomState, keep_random_state
from pursuhint.data import ImageData, InputData
from pursuhint.errors import PursuhintError
from pursuhint.training.events import EpochStarted, Event, ignore
from pursuhint.training.inputs import Run
from pursuhint.training.loop import READY, Position
from pursuhint.training.multi_student.shared import SharedResources, SharedTeacher
from pursuhint.training.run_folder.record import RunRecord
from pursuhint.training.run_training import run_steps
from pursuhint.training.signals import RunStopped, StopRequest, catch_signals, present_stop

__all__ = ["GroupEvent", "GroupStarted", "GroupStep", "RunEnded", "train_many"]

_OWN = ("student", "teacher", "hints", "losses", "optimizer", "schedule", "epochs", "passed")
"""Sections of a recipe in which runs of one group may differ: they do not affect the batches."""

_NOT_BEGUN = Position(-1, 0)
_STOPPED = "stopped; every run that had begun has been saved, and the same call resumes them"


@dataclass(frozen=True)
class GroupStarted:
    """A group of runs begins.

    Attributes:
        runs: indices into the sequence that was passed to `train_many`.
    """

    runs: tuple[int, ...]


@dataclass(frozen=True)
class GroupStep:
    """Runs of a group have taken the same step.

    Attributes:
        runs: their indices.
        epoch: from 1, over all stages.
        epochs: the largest number of epochs among the runs of the group.
        step: from 1.
        steps: of an epoch.
        samples: in this step, per run, on this rank.
    """

    runs: tuple[int, ...]
    epoch: int
    epochs: int
    step: int
    steps: int
    samples: int


@dataclass(frozen=True)
class RunEnded:
    """A run has finished or failed.

    Attributes:
        run: its index.
        result: its record, or the error.
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
    """Train several students concurrently on the same batches, with one teacher pass for all of them.

    Every run writes the folder that `pursuhint.training.train` would have written, bit for bit on the CPU
    (with the same number of threads; wall times aside), because each has its own random generators. Runs
    form a group and share batches if their recipes agree in everything but student, teacher, hints, losses,
    optimiser, schedule and epochs; groups are trained one after the other. The same call on the folders of
    interrupted runs resumes them; runs that are behind catch up first. ``seconds`` in the metrics of a run
    are its own time and its share of the common work; on a GPU, which runs asynchronously, they are
    approximate.

    The students of a group and their optimisers are in memory together; activations exist for one student at
    a time.

    Args:
        runs: each with a folder of its own.
        device: where to train; None for the best there is.
        at_once: the largest size of a group; None for no limit.
        keep_going: if a run fails, continue the others and return its error in its place. Otherwise the error
            is raised immediately; the others keep what they have saved.
        streams: on CUDA, give each student a stream of its own, so that several small ones run concurrently.
        on_event: receives starts and steps of groups and ends of runs.

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
        raise PursuhintError(f"at least 1 student must train concurrently, got {at_once}")
    report = on_event if on_event is not None else ignore
    records: dict[int, RunRecord | PursuhintError] = {}
    data: dict[str, ImageData | InputData] = {}
    stop = present_stop()
    with keep_random_state(where):
        for group in _groups(runs, at_once):
            if stop.signal is not None:
                raise RunStopped(stop.signal, _STOPPED)
            shared = SharedTeacher(data)
            arms = [
                _Arm(place, runs[place], shared, device=where, stop=stop, streams=streams) for place in group
            ]
            report(GroupStarted(tuple(group)))
            steps = _lead(arms, shared, stop=stop, keep_going=keep_going, on_event=report)
            with contextlib.closing(steps) as ends:
                for ended in ends:
                    records[ended.run] = ended.result
                    report(ended)
    return tuple(records[place] for place in range(len(runs)))


def _groups(runs: Sequence[Run], at_once: int | None) -> Iterator[list[int]]:
    """Indices of runs that share their batches, in the order of the first run of each group."""
    batches = [_batches(run) for run in runs]
    # A run without a teacher neither reads nor writes a recording: it joins the others on its batches.
    recorded = {key: run.record_teacher for key, run in zip(batches, runs) if run.record_teacher is not None}
    groups: dict[tuple[str, Path | None], list[int]] = {}
    for place, (key, run) in enumerate(zip(batches, runs)):
        taught = run.recipe.teacher is not None or run.inputs.teacher is not None
        folder = run.record_teacher if taught else recorded.get(key)
        groups.setdefault((key, folder), []).append(place)
    for places in groups.values():
        size = len(places) if at_once is None else at_once
        for start in range(0, len(places), size):
            yield places[start : start + size]


def _batches(run: Run) -> str:
    """What the batches of a run depend on."""
    values = {key: value for key, value in run.recipe.to_dict().items() if key not in _OWN}
    return json.dumps([values, id(run.inputs.data)], sort_keys=True, default=str)


def _lead(
    arms: Sequence[_Arm],
    shared: SharedTeacher,
    *,
    stop: StopRequest,
    keep_going: bool,
    on_event: Callable[[GroupEvent], None],
) -> Generator[RunEnded, None, None]:
    """Advance the runs to their ends, always the ones furthest behind, until all are at the same step."""
    going, stopped = list(arms), None
    with contextlib.ExitStack() as stack:
        stack.callback(shared.close)
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
                on_event(GroupStep(places, front.epoch, epochs, front.step, shared.steps, samples))
            for arm, event in ended:
                going.remove(arm)
                yield event
    if stopped is not None:
        raise RunStopped(stopped.signal, _STOPPED)


class _Arm:
    """One of several interleaved runs: its generator, random state, clock and CUDA stream."""

    def __init__(
        self,
        place: int,
        run: Run,
        shared: SharedTeacher,
        *,
        device: torch.device,
        stop: StopRequest,
        streams: bool,
    ) -> None:
        self.place = place
        self.position = _NOT_BEGUN
        self.resources = SharedResources(shared, str(id(run.inputs.teacher)))
        self.epochs = 0
        self._on_event = run.on_event
        self._device = device
        self._random = RandomState.now(device)
        self._stream = torch.cuda.Stream(device) if streams and device.type == "cuda" else None
        watched = replace(run, on_event=self._receive)
        self._steps = run_steps(watched, device=device, resources=self.resources, stop=stop)

    def _receive(self, event: Event) -> None:
        if isinstance(event, EpochStarted):
            self.epochs = event.epochs
        if self._on_event is not None:
            self._on_event(event)

    def advance(self) -> RunRecord | None:
        """Advance the run to its next batch request, or to its end, with its own random generators.

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
            self._stream.synchronize()  # tensors made on this stream are used on others from here on
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
        """Stop the run at its present position and unlock its folder."""
        self._steps.close()
