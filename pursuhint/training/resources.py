"""What several runs can share: data, teacher, batches, and what the teacher makes of them."""

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
    from pursuhint.training.recipe.schema import Recipe


class Resources:
    """Where a run gets these things from. This one shares nothing: it is that of a run of its own.

    `pursuhint.training.multi_student.train_many` has the one that does.
    """

    def data(self, recipe: Recipe, load: Callable[[], ImageData]) -> ImageData:
        """The data of a run, which ``load`` reads."""
        return load()

    def teacher(self, recipe: Recipe, build: Callable[[], nn.Module]) -> nn.Module:
        """The teacher of a run, which ``build`` makes."""
        return build()

    def loader(self, recipe: Recipe, make: Callable[[], Loader]) -> Loader:
        """The batches that a run trains on, which ``make`` prepares."""
        return make()

    def teacher_features(
        self, distiller: Distiller, accelerator: Accelerator
    ) -> Callable[[Batch], Features | None]:
        """What the teacher made of a batch, where it has run already.

        Args:
            distiller: that of the run.
            accelerator: its precision is that of the teacher.
        """
        return lambda batch: None

    def cache_teacher(self, distiller: Distiller, batches: Callable[[], Iterable[Batch]]) -> None:
        """A stage begins in which every sample looks the same in every epoch: keep what the teacher sees.

        Args:
            distiller: that of the run.
            batches: gives every training sample once, as it is trained on.
        """
        distiller.cache_teacher(batches())

    def clock(self) -> float:
        """Seconds since some moment, without those in which the run was waiting for others."""
        return time.perf_counter()
