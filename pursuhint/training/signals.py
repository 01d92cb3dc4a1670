"""Graceful stop: note SIGTERM, SIGHUP and SIGINT, act on them at a step after which the run can be saved."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from types import FrameType
from typing import Any

import torch
import torch.distributed as dist

from pursuhint._util.distributed import world_size
from pursuhint._util.end_signals import ends_process

AGREE_EVERY = 10
"""Steps between two exchanges in which the ranks agree on whether to stop."""

_STOPS = (signal.SIGTERM, signal.SIGINT, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))

# Seconds before a second Ctrl-C counts: launchers forward the SIGINT that the terminal has sent already.
_PATIENCE = 2.0


class RunStopped(SystemExit):
    """A signal stopped the run, which has been saved. Uncaught, it ends the process with the signal's status.

    Attributes:
        signal: the signal's number; ``code`` is 128 more, as in shells (130 for Ctrl-C, 143 for SIGTERM, 129
            for SIGHUP).
        message: the position at which the run was saved, and how to resume it.
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
        """Handle a signal. A second Ctrl-C after two seconds interrupts immediately.

        Raises:
            KeyboardInterrupt: the second Ctrl-C.
        """
        now = time.monotonic()
        if number == signal.SIGINT and self.signal == number and now - self._since > _PATIENCE:
            raise KeyboardInterrupt
        if self.signal is None:
            self.signal, self._since = number, now


_SHARED: ContextVar[StopRequest | None] = ContextVar("pursuhint.training.signals.shared", default=None)


@contextlib.contextmanager
def share_stop() -> Iterator[None]:
    """Stop before the next run within the block if a signal came too late to stop the present one.

    A run in its last epoch ends and is finished. What trains several runs one after the other, as a search
    does, would otherwise go on with the next. Blocks within the block share its request. Also a decorator.
    """
    token = None if _SHARED.get() else _SHARED.set(StopRequest())
    try:
        yield
    finally:
        if token is not None:
            _SHARED.reset(token)


def present_stop() -> StopRequest:
    """The request of the block of `share_stop`, or a new one outside of such blocks."""
    return _SHARED.get() or StopRequest()


@contextlib.contextmanager
def catch_signals(request: StopRequest) -> Iterator[None]:
    """Turn SIGTERM, SIGINT (Ctrl-C) and SIGHUP (a closed terminal) into a stop request within the block.

    Handlers of the caller and ignored signals are left unchanged. Outside the main thread nothing is caught,
    because Python allows signal handlers only there.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():
        for number in _STOPS:
            present = signal.getsignal(number)
            if ends_process(present):
                before[number] = present
                signal.signal(number, request.note)
    try:
        yield
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)


def synced_stop_signal(request: StopRequest) -> Callable[[int], int | None]:
    """Create the function with which all ranks decide at the same step to stop.

    A collective call: every rank makes it once, at the same point. A single process reads its own request
    after every step. Several ranks reduce theirs every `AGREE_EVERY` steps over gloo, on the CPU, because
    an NCCL reduction would force a GPU sync.

    Args:
        request: of this process.

    Returns:
        A function from a step to the number of the signal that asked any rank to stop, or None.
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
