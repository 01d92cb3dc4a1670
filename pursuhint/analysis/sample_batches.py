"""Batches of chosen training samples, as an analysis sees them: without augmentation, in a fixed order."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from pursuhint._util.network_input import NetworkInput
from pursuhint.data import Batch, ImageData, InputData, make_loader

__all__: list[str] = []


@dataclass(frozen=True, eq=False)
class SampleBatches:
    """Loads training samples by their indices.

    Attributes:
        data: the samples are in its training split.
        device: of the batches.
        batch_size: samples in a batch.
        workers: processes that decode image files.
    """

    data: ImageData | InputData
    device: torch.device | str
    batch_size: int = 256
    workers: int = 0

    def __call__(self, indices: Tensor) -> Iterable[Batch]:
        """The samples with some indices (see ``Batch.indices``), in their order."""
        loader = make_loader(
            self.data,
            "train",
            batch_size=self.batch_size,
            training=False,
            device=self.device,
            workers=self.workers,
            subset=indices,
        )
        return loader.epoch(0)

    def example(self, indices: Tensor) -> NetworkInput:
        """The first of some samples, as networks take it."""
        alone = replace(self, batch_size=1, workers=0)
        return next(iter(alone(indices[:1]))).images
