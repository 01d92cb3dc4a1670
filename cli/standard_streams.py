"""Stdout and stderr whose readers may go away: a run that lost its terminal or its pipe is not lost."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import IO, Any

from pursuhint.errors import PursuhintError

READER_GONE = 141
"""Exit status after the reader of stdout went away, as if SIGPIPE had ended the process."""


class _Stream:
    """A text stream that handles failures of writing; everything else is that of the stream inside.

    After a failure the file descriptor is that of the null device, so that what is left in the buffer does
    not fail again at the end of the process.
    """

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        if text == "":  # click tries whether a stream takes text, and ignores what is raised then
            return 0
        try:
            return self._stream.write(text)
        except OSError as error:
            self._failed(error)
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError as error:
            self._failed(error)

    def _failed(self, error: OSError) -> None:
        with contextlib.suppress(OSError, ValueError):  # ValueError: a stream in memory has no descriptor
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, self._stream.fileno())
            os.close(null)


class _Messages(_Stream):
    """Stderr: what cannot be written there is dropped, and the work continues."""


class _Results(_Stream):
    """Stdout: a reader that went away (``| head``) ends the command quietly, a full disk in one line."""

    def _failed(self, error: OSError) -> None:
        super()._failed(error)
        if isinstance(error, BrokenPipeError):
            raise SystemExit(READER_GONE) from None
        raise PursuhintError(f"cannot write to stdout: {error.strerror or error}") from None


@contextlib.contextmanager
def patient_streams() -> Iterator[None]:
    """Let stderr drop what it cannot write, and stdout end the command, within the block.

    Descriptors 0 to 2 that the caller closed (``2>&-``) become those of the null device: the next file that
    is opened would get their number, and messages would be written into it.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    before = sys.stdout, sys.stderr
    if sys.stdout is not None:
        sys.stdout = _Results(sys.stdout)
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    else:
        sys.stderr = _Messages(sys.stderr)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
