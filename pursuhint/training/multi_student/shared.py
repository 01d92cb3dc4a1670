"""What runs that train side by side share: data, teacher, batches and one teacher pass for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import torch

from pursuhint.data import Batch, ImageData, Loader
from pursuhint.distillation.teacher import TeacherOutputs, TeacherRunner
from pursuhint.features.extractor import Features
from pursuhint.training.loop import Position
from pursuhint.training.resources import Resources

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from pursuhint.acceleration.options import Acceleration
    from pursuhint.distillation.distiller import Distiller
    from pursuhint.training.recipe.schema import Recipe

__all__ = ["SharedResources", "SharedTeacher"]


class SharedTeacher:
    """The common part of several runs on the same batches.

    `serve` makes a batch and what the teacher sees in it, once; the runs then find both where a run of its
    own would have made them.

    Args:
        data: data by recipe section, where several groups of runs follow each other; it is added to.
    """

    def __init__(self, data: dict[str, ImageData] | None = None) -> None:
        self._data: dict[str, ImageData] = {} if data is None else data
        self._teachers: dict[str, nn.Module] = {}
        self._loader: Loader | None = None
        self._epoch: Iterator[Batch] = iter(())
        self._next: Position | None = None
        self._passes: dict[nn.Module, TeacherRunner] = {}

    def data(self, key: str, load: Callable[[], ImageData]) -> ImageData:
        """The data of a section of the recipe, loaded once."""
        if key not in self._data:
            self._data[key] = load()
        return self._data[key]

    def teacher(self, key: str, build: Callable[[], nn.Module]) -> nn.Module:
        """The teacher of a section of the recipe, built once. Nobody changes it."""
        if key not in self._teachers:
            self._teachers[key] = build()
        return self._teachers[key]

    def loader(self, make: Callable[[], Loader]) -> Loader:
        """The batches of all runs, prepared once."""
        if self._loader is None:
            self._loader = make()
        return self._loader

    def serve(self, position: Position, runs: Sequence[SharedResources]) -> int:
        """Make a batch, let every teacher see it once, and hand both to the runs.

        Args:
            position: the step that the runs are about to take.
            runs: all runs that take it.

        Returns:
            How many samples it has.
        """
        started = time.perf_counter()
        batch = self._batch(position)
        traces = self._traces(batch, runs)
        share = (time.perf_counter() - started) / len(runs)
        for run in runs:
            run.receive(batch, traces.get(run), share)
        return len(batch)

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return 0 if self._loader is None else len(self._loader)

    def _batch(self, position: Position) -> Batch:
        assert self._loader is not None
        if position != self._next:
            self._epoch = self._loader.epoch(position.epoch - 1, start=position.step - 1)
        self._next = Position(position.epoch, position.step + 1)
        return next(self._epoch)

    def _traces(self, batch: Batch, runs: Sequence[SharedResources]) -> dict[SharedResources, Features]:
        """What each run that can share a teacher pass sees in it."""
        sharing: dict[nn.Module, dict[SharedResources, TeacherOutputs]] = {}
        for run in runs:
            teacher, outputs = run.compares()
            if teacher is not None and outputs is not None and not outputs.input_gradients:
                sharing.setdefault(teacher, {})[run] = outputs
        traces: dict[SharedResources, Features] = {}
        for teacher, users in sharing.items():
            union = TeacherOutputs.union(list(users.values()))
            if teacher not in self._passes or self._passes[teacher].outputs != union:
                shared = self._passes[teacher] = TeacherRunner(teacher, union, next(iter(users)).acceleration)
                if (unchanging := next(iter(users)).unchanging_batches) is not None:
                    with next(iter(users)).autocast():
                        shared.fill(unchanging())
            with next(iter(users)).autocast():
                trace = self._passes[teacher](batch.images, batch.indices)
            traces |= {run: union.select(trace, outputs) for run, outputs in users.items()}
        return traces


class SharedResources(Resources):
    """What one of several runs gets from what they share.

    Args:
        shared: the common part.
        teacher: what tells its teacher from those of other runs, if it was passed from Python.
    """

    def __init__(self, shared: SharedTeacher, teacher: str = "") -> None:
        self._shared = shared
        self._teacher_name = teacher
        self._distiller: Distiller | None = None
        self._accelerator: Accelerator | None = None
        self._batch: Batch | None = None
        self._trace: Features | None = None
        self._seconds = 0.0
        self._since: float | None = None
        self.unchanging_batches: Callable[[], Iterable[Batch]] | None = None

    # -- what the run asks for -----------------------------------------------------------------------------

    def data(self, recipe: Recipe, load: Callable[[], ImageData]) -> ImageData:
        return self._shared.data(recipe.data.model_dump_json(), load)

    def teacher(self, recipe: Recipe, build: Callable[[], nn.Module]) -> nn.Module:
        network = recipe.teacher.model_dump_json() if recipe.teacher is not None else ""
        return self._shared.teacher(f"{network} {self._teacher_name}", build)

    def loader(self, recipe: Recipe, make: Callable[[], Loader]) -> Loader:
        return _SharedLoader(self._shared.loader(make), self)

    def teacher_features(
        self, distiller: Distiller, accelerator: Accelerator
    ) -> Callable[[Batch], Features | None]:
        self._distiller, self._accelerator = distiller, accelerator
        return lambda batch: self._trace

    def cache_teacher(self, distiller: Distiller, batches: Callable[[], Iterable[Batch]]) -> None:
        self.unchanging_batches = batches

    def clock(self) -> float:
        return self._seconds + (0.0 if self._since is None else time.perf_counter() - self._since)

    # -- what whoever leads the runs does ------------------------------------------------------------------

    def compares(self) -> tuple[nn.Module | None, TeacherOutputs | None]:
        """The run's teacher, and what its present stage looks at in it."""
        assert self._distiller is not None
        return self._distiller.teacher, self._distiller.teacher_outputs

    @property
    def acceleration(self) -> Acceleration:
        """How the run's arithmetic is carried out."""
        assert self._distiller is not None
        return self._distiller.acceleration

    def autocast(self) -> AbstractContextManager[Any]:
        """The precision of the run."""
        assert self._accelerator is not None
        return self._accelerator.autocast()

    def receive(self, batch: Batch, trace: Features | None, seconds: float) -> None:
        """Take the batch of the next step, what the teacher saw in it, and a share of the time that took."""
        self._batch, self._trace = batch, trace
        self._seconds += seconds

    def take(self) -> Batch:
        """The batch of this step."""
        assert self._batch is not None
        batch, self._batch = self._batch, None
        return batch

    def resume(self) -> None:
        """The run's clock goes on."""
        self._since = time.perf_counter()

    def pause(self) -> None:
        """The run's clock stands still; what it was given for its step is let go."""
        assert self._since is not None
        self._seconds += time.perf_counter() - self._since
        self._since = self._batch = self._trace = None

    def record_stream(self, stream: torch.cuda.Stream) -> None:
        """Keep the memory of batch and trace until a stream is done with them."""
        tensors = [] if self._batch is None else [self._batch.images, self._batch.labels, self._batch.indices]
        if self._trace is not None:
            tensors += self._trace.maps
            tensors += [part for part in (self._trace.logits, self._trace.embedding) if part is not None]
        for tensor in tensors:
            tensor.record_stream(stream)


class _SharedLoader(Loader):
    """A loader whose batches somebody else asks for."""

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
