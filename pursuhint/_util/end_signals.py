"""SIGTERM and SIGHUP as exceptions, so that a command ends as it does on Ctrl-C: in one line, files whole."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType

__all__ = ["EndedBySignal", "ends_process", "raise_on_signals"]

_NUMBERS = (signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()))


class EndedBySignal(KeyboardInterrupt):
    """A signal asks the process to end.

    Attributes:
        signal: its number.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.signal = number


class _Raise:
    """A handler that raises in the process that installed it; children that inherit it end by default."""

    def __init__(self) -> None:
        self._process = os.getpid()

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._process:
            raise EndedBySignal(number)
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def ends_process(handler: object) -> bool:
    """Whether a handler of a signal only ends the process, so that a run may save itself in its place."""
    return handler in (signal.SIG_DFL, signal.default_int_handler) or isinstance(handler, _Raise)


@contextlib.contextmanager
def raise_on_signals() -> Iterator[None]:
    """Raise `EndedBySignal` for SIGTERM and SIGHUP within the block.

    Handlers of the caller and ignored signals (nohup) stay. Outside of the main thread nothing changes.
    """
    caught: list[signal.Signals] = []
    if threading.current_thread() is threading.main_thread():
        handler = _Raise()
        for number in _NUMBERS:
            if signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, handler)
                caught.append(number)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)
