"""Share data, teacher, batches and teacher passes between the runs of a group."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pursuhint._util.network_input import tensors_of
from pursuhint.data import Batch, ImageData, InputData, Loader
from pursuhint.distillation.teacher import TeacherOutputs, TeacherRunner
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import Features
from pursuhint.training.loop import Position
from pursuhint.training.resources import Resources, TeacherPass

if TYPE_CHECKING:
    from torch import nn

    from pursuhint.acceleration.options import Acceleration
    from pursuhint.distillation.distiller import Distiller
    from pursuhint.distillation.recorded_teacher import RecordedTeacher
    from pursuhint.models.teacher_accuracy import TeacherAccuracy
    from pursuhint.training.recipe.schema import Recipe
    from pursuhint.training.teacher_recording import TeacherRecording

__all__ = ["SharedResources", "SharedTeacher"]


class SharedTeacher:
    """The data, teachers and batches of a group of runs.

    `serve` loads each batch and computes the teacher's features once; each run receives both instead of
    computing them.

    Args:
        data: loaded data sets by recipe section, shared by successive groups; new ones are added.
    """

    def __init__(self, data: dict[str, ImageData | InputData] | None = None) -> None:
        self._data: dict[str, ImageData | InputData] = {} if data is None else data
        self._teachers: dict[str, nn.Module] = {}
        self._accuracies: dict[str, TeacherAccuracy] = {}
        self._loader: Loader | None = None
        self._epoch: Iterator[Batch] = iter(())
        self._next: Position | None = None
        self._runners: dict[nn.Module, TeacherRunner] = {}
        self._recordings: dict[str, TeacherRecording] = {}
        self._recorded: dict[TeacherRecording, RecordedTeacher] = {}

    def close(self) -> None:
        """Close the recordings of teachers."""
        for recording in self._recordings.values():
            recording.close()

    def recording(self, recording: TeacherRecording) -> TeacherRecording:
        """The recording of a teacher, the same one for all runs that use it."""
        return self._recordings.setdefault(json.dumps([str(recording.folder), recording.identity]), recording)

    def data(self, key: str, load: Callable[[], ImageData | InputData]) -> ImageData | InputData:
        """The data set of a recipe section, loaded once."""
        if key not in self._data:
            self._data[key] = load()
        return self._data[key]

    def teacher(self, key: str, build: Callable[[], nn.Module]) -> nn.Module:
        """The teacher of a recipe section, built once; runs must not change it."""
        if key not in self._teachers:
            self._teachers[key] = build()
        return self._teachers[key]

    def accuracy(self, key: str, measure: Callable[[], TeacherAccuracy]) -> TeacherAccuracy:
        """The accuracy of the teacher of a recipe section, measured once."""
        if key not in self._accuracies:
            self._accuracies[key] = measure()
        return self._accuracies[key]

    def loader(self, make: Callable[[], Loader]) -> Loader:
        """The loader of all runs, created once."""
        loader = make()
        if self._loader is None:
            self._loader = loader
        elif loader.normalization != self._loader.normalization:
            raise PursuhintError(
                "students of one group share their batches, and these expect differently normalised images; "
                "set data.normalize, or train them one by one"
            )
        return self._loader

    def serve(self, position: Position, runs: Sequence[SharedResources]) -> int:
        """Load a batch, run every teacher on it once, and pass batch and features to the runs.

        Args:
            position: the step that the runs take next.
            runs: all runs that take it.

        Returns:
            The number of samples in the batch.
        """
        started = time.perf_counter()
        batch = self._batch(position)
        features = self._teacher_features(batch, position, runs)
        share = (time.perf_counter() - started) / len(runs)
        for run in runs:
            run.receive(batch, features.get(run), share)
        return len(batch)

    @property
    def steps(self) -> int:
        """Steps per epoch."""
        return 0 if self._loader is None else len(self._loader)

    def _batch(self, position: Position) -> Batch:
        assert self._loader is not None
        if position != self._next:
            self._epoch = self._loader.epoch(position.epoch - 1, start=position.step - 1)
        self._next = Position(position.epoch, position.step + 1)
        return next(self._epoch)

    def _teacher_features(
        self, batch: Batch, position: Position, runs: Sequence[SharedResources]
    ) -> dict[SharedResources, Features]:
        """The teacher features of each run that can share a teacher pass."""
        sharing: dict[nn.Module, dict[SharedResources, TeacherOutputs]] = {}
        for run in runs:
            teacher, outputs = run.teacher_needs()
            if teacher is not None and outputs is not None and not outputs.input_gradients:
                sharing.setdefault(teacher, {})[run] = outputs
        features: dict[SharedResources, Features] = {}
        for teacher, users in sharing.items():
            union = TeacherOutputs.union(list(users.values()))
            # One pass computes the union of what the runs need; each run takes its part of it below.
            if teacher not in self._runners or self._runners[teacher].outputs != union:
                shared = self._runners[teacher] = TeacherRunner(
                    teacher, union, next(iter(users)).acceleration
                )
                if (unchanging := next(iter(users)).unchanging_batches) is not None:
                    with next(iter(users)).autocast():
                        shared.fill(unchanging())
            runner = self._runners[teacher]

            def compute(runner: TeacherRunner = runner) -> Features:
                return runner.of_batch(batch)

            recorded = self._opened(next(iter(users)).recording_in_use)
            with next(iter(users)).autocast():
                if recorded is None:
                    combined = compute()
                else:
                    place = (position.epoch, position.step)
                    combined = recorded(place, batch.indices, union, compute)
            features |= {run: union.select(combined, outputs) for run, outputs in users.items()}
        return features

    def _opened(self, recording: TeacherRecording | None) -> RecordedTeacher | None:
        """What is read and written, once for all runs of the group; None without a recording."""
        if recording is None:
            return None
        if recording not in self._recorded:
            assert self._loader is not None
            self._recorded[recording] = recording.open(self._loader)
        return self._recorded[recording]


class SharedResources(Resources):
    """Resources of one run in a group, taken from the shared ones.

    Args:
        shared: the group's data, teachers and batches.
        teacher: distinguishes teachers that were passed from Python, which the recipe does not.
    """

    def __init__(self, shared: SharedTeacher, teacher: str = "") -> None:
        self._shared = shared
        self._teacher_name = teacher
        self._pass: TeacherPass | None = None
        self._batch: Batch | None = None
        self._features: Features | None = None
        self._seconds = 0.0
        self._since: float | None = None
        self.unchanging_batches: Callable[[], Iterable[Batch]] | None = None

    # -- requested by the run -----------------------------------------------------------------------------

    def data(self, recipe: Recipe, load: Callable[[], ImageData | InputData]) -> ImageData | InputData:
        return self._shared.data(recipe.data.model_dump_json(exclude={"second_view"}), load)

    def teacher(self, recipe: Recipe, build: Callable[[], nn.Module]) -> nn.Module:
        return self._shared.teacher(self._teacher_key(recipe), build)

    def accuracy(self, recipe: Recipe, measure: Callable[[], TeacherAccuracy]) -> TeacherAccuracy:
        return self._shared.accuracy(self._teacher_key(recipe), measure)

    def _teacher_key(self, recipe: Recipe) -> str:
        network = recipe.teacher.model_dump_json() if recipe.teacher is not None else ""
        return f"{network} {self._teacher_name}"

    def loader(self, recipe: Recipe, make: Callable[[], Loader]) -> Loader:
        return _SharedLoader(self._shared.loader(make), self)

    def teacher_features(self, teacher: TeacherPass) -> Callable[[Batch, Position], Features | None]:
        self._pass = teacher
        return lambda batch, position: self._features

    def cache_teacher(self, distiller: Distiller, batches: Callable[[], Iterable[Batch]]) -> None:
        self.unchanging_batches = batches

    def recording(self, recording: TeacherRecording) -> TeacherRecording:
        return self._shared.recording(recording)

    def clock(self) -> float:
        return self._seconds + (0.0 if self._since is None else time.perf_counter() - self._since)

    # -- called by the leader of the group ------------------------------------------------------------------

    def teacher_needs(self) -> tuple[nn.Module | None, TeacherOutputs | None]:
        """The run's teacher, and the outputs of it that the present stage needs."""
        assert self._pass is not None
        return self._pass.distiller.teacher, self._pass.distiller.teacher_outputs

    @property
    def recording_in_use(self) -> TeacherRecording | None:
        """The recording of the run's teacher; None without."""
        assert self._pass is not None
        return self._pass.recording

    @property
    def acceleration(self) -> Acceleration:
        """The run's settings of speed."""
        assert self._pass is not None
        return self._pass.distiller.acceleration

    def autocast(self) -> AbstractContextManager[Any]:
        """The run's mixed-precision context."""
        assert self._pass is not None
        return self._pass.accelerator.autocast()

    def receive(self, batch: Batch, features: Features | None, seconds: float) -> None:
        """Receive the next step's batch, its teacher features and a share of the seconds spent on both."""
        self._batch, self._features = batch, features
        self._seconds += seconds

    def take(self) -> Batch:
        """The batch of this step."""
        assert self._batch is not None
        batch, self._batch = self._batch, None
        return batch

    def resume(self) -> None:
        """Start the run's clock."""
        self._since = time.perf_counter()

    def pause(self) -> None:
        """Stop the run's clock and release the batch and features of its step."""
        assert self._since is not None
        self._seconds += time.perf_counter() - self._since
        self._since = self._batch = self._features = None

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory of batch and features until a stream has finished with them."""
        tensors: list[Tensor | None] = []
        if (batch := self._batch) is not None:
            tensors += [*tensors_of(batch.images), batch.second_view, batch.labels, batch.indices]
        if (features := self._features) is not None:
            tensors += [*features.maps, features.logits, features.embedding, features.second_logits]
        for tensor in tensors:
            if tensor is not None:
                tensor.record_stream(stream)


class _SharedLoader(Loader):
    """A loader that yields the batches which the leader has loaded."""

    def __init__(self, inner: Loader, run: SharedResources) -> None:
        self._inner, self._run = inner, run
        self.device = inner.device

    def __len__(self) -> int:
        return len(self._inner)

    @property
    def num_samples(self) -> int:
        return self._inner.num_samples

    def joint_size(self, step: int) -> int:
        return self._inner.joint_size(step)

    def epoch(self, number: int = 0, start: int = 0) -> Iterator[Batch]:
        for _ in range(start, len(self)):
            yield self._run.take()
