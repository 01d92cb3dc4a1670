"""A table of a teacher's outputs for every sample of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import Features


class TeacherCache:
    """Outputs of a teacher by sample index: filled with `add`, then `close`d, then `read`."""

    def __init__(self) -> None:
        self._batches: list[tuple[Tensor, Features]] = []
        self._rows = torch.empty(0, dtype=torch.int64)  # row of every sample; -1 if it is absent
        self._table = Features()

    def add(self, indices: Tensor, features: Features) -> None:
        """Add a batch. It is copied, because the next pass of a compiled teacher overwrites its outputs."""
        copied = Features(
            None if features.logits is None else features.logits.clone(),
            None if features.embedding is None else features.embedding.clone(),
            tuple(values.clone() for values in features.maps),
        )
        self._batches.append((indices, copied))

    def close(self) -> None:
        """Join all batches into one table.

        Raises:
            PursuhintError: no batch was added.
        """
        if not self._batches:
            raise PursuhintError("there is no sample for the teacher to look at")
        indices = torch.cat([indices for indices, _ in self._batches])
        batches = [features for _, features in self._batches]
        self._batches = []
        self._rows = torch.full((int(indices.max()) + 1,), -1, device=indices.device)
        self._rows[indices] = torch.arange(len(indices), device=indices.device)
        self._table = _joined(batches)

    def read(self, indices: Tensor) -> Features:
        """The outputs for some samples.

        Args:
            indices: of the samples, (N,), which must be in the table. Checked on the CPU only: on a GPU the
                check would force a sync.

        Raises:
            PursuhintError: a sample is not in the table.
        """
        if indices.device.type == "cpu":
            absent = indices >= len(self._rows)
            absent |= self._rows[indices.masked_fill(absent, 0)] < 0
            if absent.any():
                raise PursuhintError(f"the teacher has not seen sample {int(indices[absent][0])}")
        rows = self._rows[indices]
        return Features(
            None if self._table.logits is None else self._table.logits[rows],
            None if self._table.embedding is None else self._table.embedding[rows],
            tuple(values[rows] for values in self._table.maps),
        )


def _joined(batches: Sequence[Features]) -> Features:
    def join(parts: list[Tensor | None]) -> Tensor | None:
        present = [part for part in parts if part is not None]
        return torch.cat(present) if present else None

    return Features(
        join([features.logits for features in batches]),
        join([features.embedding for features in batches]),
        tuple(torch.cat(parts) for parts in zip(*(features.maps for features in batches))),
    )
