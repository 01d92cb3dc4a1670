"""Copy the next batch to a GPU while the device computes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from pursuhint._util.network_input import map_tensors, tensors_of
from pursuhint.data.batch import Batch


class Prefetcher:
    """Yields batches on a device; on a GPU the next batch is copied while the device computes.

    Copies to a GPU start from pinned memory on a separate stream, so that they overlap with kernels and do
    not force a GPU sync. Call `preload` after the kernels for a batch have been launched.

    Args:
        batches: on the CPU or on the device.
        device: the target device.
    """

    def __init__(self, batches: Iterable[Batch], device: torch.device | str) -> None:
        self._batches = iter(batches)
        self._device = torch.device(device)
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        self._ready: Batch | None = None
        self._prepared = False

    def preload(self) -> None:
        """Start to copy the next batch; does nothing on a CPU, where a copy cannot overlap with computing."""
        if self._stream is None or self._prepared:
            return
        with torch.cuda.stream(self._stream):
            self._ready = self._fetch()
        self._prepared = True

    def next(self) -> Batch | None:
        """The next batch, or None after the last one."""
        if self._stream is None:
            return self._fetch()
        self.preload()
        batch, self._ready, self._prepared = self._ready, None, False
        if batch is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            for tensor in (*tensors_of(batch.images), batch.labels, batch.indices):
                if tensor.is_cuda:
                    # Allocated on the copy stream: not to be reused before this stream is done.
                    tensor.record_stream(current)
        return batch

    def _fetch(self) -> Batch | None:
        batch = next(self._batches, None)
        return None if batch is None else replace(batch, images=map_tensors(batch.images, self._moved))

    def _moved(self, images: Tensor) -> Tensor:
        if self._stream is not None and images.device.type == "cpu":
            images = images.pin_memory()
        return images.to(self._device, non_blocking=True)
