"""Create what a run needs, and what several runs can share: data, teacher, batches, teacher features."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from pursuhint.data import Batch, ImageData, Loader
from pursuhint.features.extractor import Features

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from pursuhint.distillation.distiller import Distiller
    from pursuhint.models.teacher_accuracy import TeacherAccuracy
    from pursuhint.training.recipe.schema import Recipe


class Resources:
    """Creates what a run needs. This default shares nothing; `SharedResources` shares between runs."""

    def data(self, recipe: Recipe, load: Callable[[], ImageData]) -> ImageData:
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

    def teacher_features(
        self, distiller: Distiller, accelerator: Accelerator
    ) -> Callable[[Batch], Features | None]:
        """A function from a batch to the teacher's features, or to None where the run computes them itself.

        Args:
            distiller: of the run.
            accelerator: whose precision the teacher runs in.
        """
        return lambda batch: None

    def cache_teacher(self, distiller: Distiller, batches: Callable[[], Iterable[Batch]]) -> None:
        """Cache the teacher's outputs, in a stage in which samples are identical in every epoch.

        Args:
            distiller: of the run.
            batches: yields every training sample once, as it is trained on.
        """
        distiller.cache_teacher(batches())

    def clock(self) -> float:
        """Seconds since some moment, without the time spent waiting for other runs."""
        return time.perf_counter()
