"""What a teacher made of every sample of a data set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import Features


class TeacherCache:
    """Records of a teacher by sample index: filled with `add`, then `close`d, then `read`."""

    def __init__(self) -> None:
        self._parts: list[tuple[Tensor, Features]] = []
        self._place = torch.empty(0, dtype=torch.int64)
        self._whole = Features()

    def add(self, indices: Tensor, trace: Features) -> None:
        """Keep a batch; copied, since what a compiled teacher returns is overwritten by its next pass."""
        copied = Features(
            None if trace.logits is None else trace.logits.clone(),
            None if trace.embedding is None else trace.embedding.clone(),
            tuple(features.clone() for features in trace.maps),
        )
        self._parts.append((indices, copied))

    def close(self) -> None:
        """Join all batches into one table.

        Raises:
            PursuhintError: there are none.
        """
        if not self._parts:
            raise PursuhintError("there is no sample for the teacher to look at")
        indices = torch.cat([indices for indices, _ in self._parts])
        traces = [trace for _, trace in self._parts]
        self._parts = []
        self._place = torch.full((int(indices.max()) + 1,), -1, device=indices.device)
        self._place[indices] = torch.arange(len(indices), device=indices.device)
        self._whole = _joined(traces)

    def read(self, indices: Tensor) -> Features:
        """The record of some samples.

        Args:
            indices: of the samples, (N,). They must be in it; on the CPU, where looking costs nothing, that
                is checked.

        Raises:
            PursuhintError: one of them is not.
        """
        if indices.device.type == "cpu":
            absent = indices >= len(self._place)
            absent |= self._place[indices.masked_fill(absent, 0)] < 0
            if absent.any():
                raise PursuhintError(f"the teacher has not seen sample {int(indices[absent][0])}")
        place = self._place[indices]
        return Features(
            None if self._whole.logits is None else self._whole.logits[place],
            None if self._whole.embedding is None else self._whole.embedding[place],
            tuple(features[place] for features in self._whole.maps),
        )


def _joined(traces: Sequence[Features]) -> Features:
    def join(parts: list[Tensor | None]) -> Tensor | None:
        present = [part for part in parts if part is not None]
        return torch.cat(present) if present else None

    return Features(
        join([trace.logits for trace in traces]),
        join([trace.embedding for trace in traces]),
        tuple(torch.cat(parts) for parts in zip(*(trace.maps for trace in traces))),
    )
