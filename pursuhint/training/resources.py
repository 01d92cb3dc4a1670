"""Create what a run needs, and what several runs can share: data, teacher, batches, teacher features."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pursuhint.data import Batch, ImageData, InputData, Loader
from pursuhint.features.extractor import Features

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from pursuhint.distillation.distiller import Distiller
    from pursuhint.models.teacher_accuracy import TeacherAccuracy
    from pursuhint.training.loop import Position
    from pursuhint.training.recipe.schema import Recipe
    from pursuhint.training.teacher_recording import TeacherRecording


@dataclass(frozen=True, eq=False)
class TeacherPass:
    """What the pass of a run's teacher needs.

    Attributes:
        distiller: with the teacher, and the outputs of it that the present stage looks at.
        accelerator: whose precision the teacher runs in.
        recording: from which outputs are read, and to which they are written; None without.
        loader: of the training batches.
    """

    distiller: Distiller
    accelerator: Accelerator
    recording: TeacherRecording | None
    loader: Loader


class Resources:
    """Creates what a run needs. This default shares nothing; `SharedResources` shares between runs."""

    _recording: TeacherRecording | None = None

    def data(self, recipe: Recipe, load: Callable[[], ImageData | InputData]) -> ImageData | InputData:
        """The data of a run; ``load`` reads them."""
        return load()

    def teacher(self, recipe: Recipe, build: Callable[[], nn.Module]) -> nn.Module:
        """The teacher of a run; ``build`` creates it."""
        return build()

    def accuracy(self, recipe: Recipe, measure: Callable[[], TeacherAccuracy]) -> TeacherAccuracy:
        """The accuracy of the teacher of a run; ``measure`` finds it out."""
        return measure()

    def loader(self, recipe: Recipe, make: Callable[[], Loader]) -> Loader:
        """The training loader of a run; ``make`` creates it."""
        return make()

    def teacher_features(self, teacher: TeacherPass) -> Callable[[Batch, Position], Features | None]:
        """A function from a batch and its position to the teacher's features.

        It gives None where the run computes them itself.
        """
        if teacher.recording is None:
            return lambda batch, position: None
        distiller = teacher.distiller
        recorded = teacher.recording.open(teacher.loader)

        def features(batch: Batch, position: Position) -> Features | None:
            outputs = distiller.teacher_outputs
            if outputs is None:
                return None
            with teacher.accelerator.autocast():
                place = (position.epoch, position.step)
                return recorded(place, batch.indices, outputs, lambda: distiller.run_teacher(batch))

        return features

    def close(self) -> None:
        """Close what was opened for the run."""
        if self._recording is not None:
            self._recording.close()

    def cache_teacher(self, distiller: Distiller, batches: Callable[[], Iterable[Batch]]) -> None:
        """Cache the teacher's outputs, in a stage in which samples are identical in every epoch.

        Args:
            distiller: of the run.
            batches: yields every training sample once, as it is trained on.
        """
        distiller.cache_teacher(batches())

    def recording(self, recording: TeacherRecording) -> TeacherRecording:
        """The recording that a run uses; several runs share one."""
        self._recording = recording
        return recording

    def clock(self) -> float:
        """Seconds since some moment, without the time spent waiting for other runs."""
        return time.perf_counter()
