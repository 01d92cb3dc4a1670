"""Time the parts of a pass over data without forcing a GPU sync in every step."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import distributed

__all__ = ["CollectSeconds", "Stopwatch"]

_MANY = 512


@dataclass
class CollectSeconds:
    """Seconds that a collection of features took, by part.

    Attributes:
        data: waiting for batches. On a GPU, which computes while the next batch is loaded, the time in which
            it was idle.
        forward: running the network and pooling its features.
        accumulate: adding the features to the statistics.
    """

    data: float = 0.0
    forward: float = 0.0
    accumulate: float = 0.0

    @property
    def total(self) -> float:
        """Sum of the parts."""
        return self.data + self.forward + self.accumulate

    def take_slowest(self, device: torch.device | str) -> None:
        """Take the longest times among the ranks of the default group; a collective call."""
        seconds = torch.tensor([self.data, self.forward, self.accumulate], device=device)
        distributed.all_reduce(seconds, distributed.ReduceOp.MAX)
        self.data, self.forward, self.accumulate = seconds.tolist()


class Stopwatch:
    """Add the time of the parts of a pass to a `CollectSeconds`.

    On the CPU it reads the clock. A GPU runs asynchronously: CUDA events measure each part, `settle` waits
    for them, and the rest of the elapsed time counts as ``data``.

    Args:
        seconds: the record to add to.
        device: of the computation.
    """

    def __init__(self, seconds: CollectSeconds, device: torch.device | str) -> None:
        self.seconds = seconds
        self._device = torch.device(device)
        self._queued = self._device.type == "cuda"
        self._parts: list[tuple[str, torch.cuda.Event, torch.cuda.Event]] = []
        self._worked = 0.0
        self.restart()

    def restart(self) -> None:
        """Leave out the time since the last `settle`."""
        self._began = time.perf_counter()

    @contextlib.contextmanager
    def measure(self, part: Literal["data", "forward", "accumulate"]) -> Iterator[None]:
        """Add the time of the ``with`` block to a part."""
        if not self._queued:
            began = time.perf_counter()
            yield
            self._add(part, time.perf_counter() - began)
            return
        if part == "data":
            yield
            return
        with torch.cuda.device(self._device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            yield
            end.record()
        self._parts.append((part, start, end))
        if len(self._parts) > _MANY:
            self._read(wait=False)

    def settle(self) -> None:
        """Bring the seconds up to date; forces a GPU sync."""
        if not self._queued:
            return
        self._read(wait=True)
        self.seconds.data += max(0.0, time.perf_counter() - self._began - self._worked)
        self._worked = 0.0
        self.restart()

    def _read(self, *, wait: bool) -> None:
        while self._parts:
            part, start, end = self._parts[0]
            if wait:
                end.synchronize()
            elif not end.query():
                return
            took = start.elapsed_time(end) / 1000
            self._add(part, took)
            self._worked += took
            del self._parts[0]

    def _add(self, part: str, took: float) -> None:
        setattr(self.seconds, part, getattr(self.seconds, part) + took)
