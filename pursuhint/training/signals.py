"""A run that is asked to stop: the signal is noted, and acted on where the run can be saved."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from pursuhint._util.distributed import world_size

AGREE_EVERY = 10
"""Steps between two moments at which several processes ask each other whether one of them is to stop."""

# Seconds after which a second Ctrl-C is meant as one: launchers pass on what the terminal has sent already.
_PATIENCE = 2.0


class RunStopped(SystemExit):
    """A run was asked to stop, and has been saved. Uncaught, it ends the process as the signal would have.

    Attributes:
        signal: the signal's number; ``code`` is 128 more, as in shells (130 for Ctrl-C, 143 for SIGTERM).
        message: where the run is and how it goes on.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(128 + number)
        self.signal = number
        self.message = message

    def __str__(self) -> str:
        return self.message


class StopRequest:
    """Whether a run is to stop. Set by whoever leads runs, and only read by them.

    Attributes:
        signal: number of the signal that asked for it; None as long as nobody has.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._since = 0.0

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """Handle a signal. A second Ctrl-C that is meant as one interrupts at once.

        Raises:
            KeyboardInterrupt: somebody has lost patience.
        """
        now = time.monotonic()
        if number == signal.SIGINT and self.signal == number and now - self._since > _PATIENCE:
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal, self._since = number, now


@contextlib.contextmanager
def catch_signals(request: StopRequest) -> Iterator[None]:
    """Turn SIGTERM and SIGINT (Ctrl-C) into a request, as long as the block lasts.

    Handlers that somebody else has installed are left alone, and so are ignored signals. In a thread other
    than the main one nothing is caught, since Python allows handlers in that one only.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            present = signal.getsignal(number)
            if present in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = present
                signal.signal(number, request.note)
    try:
        yield
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)


def synced_stop_signal(request: StopRequest) -> Callable[[int], int | None]:
    """A question that several processes answer alike: is the run to stop after this step?

    Every process calls this once, at the same point. Alone, a process looks at its own request after every
    step. Several ask each other every `AGREE_EVERY` steps, on the host, so that no device is waited for.

    Args:
        request: this process's own.

    Returns:
        From a step to the number of the signal that asks to stop, or None.
    """
    if world_size() == 1:
        return lambda step: request.signal
    group: Any = None if dist.get_backend() == "gloo" else dist.new_group(backend="gloo")

    def ask(step: int) -> int | None:
        if step % AGREE_EVERY:
            return None
        asked = torch.tensor([request.signal or 0])
        dist.all_reduce(asked, dist.ReduceOp.MAX, group=group)
        return int(asked) or None

    return ask
