"""Batches on their way to the device that works on them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor

from pursuhint.data.batch import Batch


class Prefetcher:
    """Hands out batches on a device; on a GPU the next one travels while the device works.

    Copies to a GPU start from pinned memory, on a stream of their own, so neither the host nor the work in
    progress waits for them. Call `preload` once the work on a batch has been started.

    Args:
        batches: on the CPU, or on the device already.
        device: where they are wanted.
    """

    def __init__(self, batches: Iterable[Batch], device: torch.device | str) -> None:
        self._batches = iter(batches)
        self._device = torch.device(device)
        self._stream = torch.cuda.Stream(self._device) if self._device.type == "cuda" else None
        self._ready: Batch | None = None
        self._prepared = False

    def preload(self) -> None:
        """Start the next batch's way to the device; nothing happens where that cannot overlap with work."""
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
            for tensor in (batch.images, batch.labels, batch.indices):
                if tensor.is_cuda:
                    # Made on the other stream: its memory must not be given away before this one is done.
                    tensor.record_stream(current)
        return batch

    def _fetch(self) -> Batch | None:
        batch = next(self._batches, None)
        return None if batch is None else replace(batch, images=self._moved(batch.images))

    def _moved(self, images: Tensor) -> Tensor:
        if self._stream is not None and images.device.type == "cpu":
            images = images.pin_memory()
        return images.to(self._device, non_blocking=True)
