"""Sums of the features of every class, beside the statistics of the layers in the same pass."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor
from torch import distributed as dist

from pursuhint._util.distributed import world_size
from pursuhint.similarity.accumulators.sample_rows import SampleRows
from pursuhint.similarity.accumulators.shards import MomentShards, RowShards
from pursuhint.similarity.accumulators.tensor_file import read_tensors, write_tensors


class ClassSums:
    """Sums of the features of all layers by class.

    Memory is ``8 * classes * sum(widths)`` bytes: 1.6 MB for the 54 blocks of resnet110 and 100 classes.

    Args:
        width: number of features of all layers together.
        classes: how many classes; samples with labels below 0 or from here on are left out.
        device: where they are kept.

    Attributes:
        sums: (classes, width), float64.
        counts: samples of every class, (classes,), float64.
    """

    def __init__(self, width: int, classes: int, *, device: torch.device | str = "cpu") -> None:
        # The last row takes the samples without a class: selecting the others would make a GPU's host wait.
        self._sums = torch.zeros(classes + 1, width, dtype=torch.float64, device=device)
        self._counts = torch.zeros(classes + 1, dtype=torch.float64, device=device)

    @property
    def sums(self) -> Tensor:
        return self._sums[:-1]

    @property
    def counts(self) -> Tensor:
        return self._counts[:-1]

    def update(self, features: Sequence[Tensor], labels: Tensor) -> None:
        """Add a batch.

        Args:
            features: one tensor a layer, (batch, width of the layer).
            labels: integers, (batch,).
        """
        last = len(self.counts)
        labels = labels.to(self._sums.device, torch.int64)
        rows = torch.where((labels >= 0) & (labels < last), labels, last)
        z = torch.cat([layer.detach().to(self._sums) for layer in features], dim=1)
        self._sums.index_add_(0, rows, z)
        self._counts.index_add_(0, rows, torch.ones_like(rows, dtype=torch.float64))

    def all_reduce(self) -> None:
        """Add the sums of all ranks of the default process group."""
        if world_size() > 1:
            dist.all_reduce(self._sums)
            dist.all_reduce(self._counts)

    def write(self, path: Path) -> None:
        """Save the sums."""
        write_tensors(path, self._tensors)

    def read(self, path: Path) -> None:
        """Continue from saved sums.

        Raises:
            PursuhintError: the file is missing, damaged, or of other layers or classes.
        """
        read_tensors(path, self._tensors)

    @property
    def _tensors(self) -> dict[str, Tensor]:
        return {"sums": self._sums, "counts": self._counts}


class LabeledShards:
    """Shards of the samples, and what is kept of them by class.

    Args:
        shards: statistics of the layers.
        classes: sums of their features, or None for data without classes.
        rows: their features for some samples, or None.
    """

    def __init__(
        self, shards: MomentShards | RowShards, classes: ClassSums | None, rows: SampleRows | None = None
    ) -> None:
        self.shards = shards
        self.classes = classes
        self.rows = rows

    @property
    def done(self) -> int:
        """Number of batches added."""
        return self.shards.done

    def update(self, features: Sequence[Tensor], *, samples: Tensor, labels: Tensor) -> None:
        """Add the next batch; see `MomentShards.update`.

        Raises:
            PursuhintError: as there.
        """
        self.shards.update(features, samples=samples)
        if self.classes is not None:
            self.classes.update(features, labels)
        if self.rows is not None:
            self.rows.update(features, labels, samples=samples)

    def all_reduce(self) -> None:
        """Add what all ranks of the default process group kept by class."""
        for kept in self._by_class.values():
            kept.all_reduce()

    def reopen(self) -> None:
        """Take further batches after the shards were finished; see `MomentShards.reopen`."""
        self.shards.reopen()

    def write(self, prefix: str, slot: Path) -> None:
        """Save the state; see `MomentShards.write`."""
        self.shards.write(prefix, slot)
        for name, kept in self._by_class.items():
            kept.write(_file(prefix, slot, name))

    def read(self, prefix: str, slot: Path) -> None:
        """Resume from a saved state; no batch may have been added yet.

        Raises:
            PursuhintError: a file is missing or damaged.
        """
        self.shards.read(prefix, slot)
        for name, kept in self._by_class.items():
            kept.read(_file(prefix, slot, name))

    @property
    def _by_class(self) -> dict[str, ClassSums | SampleRows]:
        named = {"classes": self.classes, "rows": self.rows}
        return {name: kept for name, kept in named.items() if kept is not None}


def _file(prefix: str, slot: Path, name: str) -> Path:
    return slot / f"{Path(prefix).name}.{name}.safetensors"
