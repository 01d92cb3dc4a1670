"""The command that is running, written so that it can be pasted into a shell in any folder."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import PurePath

__all__ = ["as_shell_line", "current_command", "running_command"]

_RUNNING: ContextVar[str] = ContextVar("pursuhint_command", default="")


@contextmanager
def running_command(line: str) -> Iterator[None]:
    """Record a command as the running one for as long as the block lasts.

    Args:
        line: for a shell, with absolute paths.
    """
    token = _RUNNING.set(line)
    try:
        yield
    finally:
        _RUNNING.reset(token)


def current_command() -> str:
    """The running command as a line for a shell, or ``from Python (PROGRAM)`` outside the command line."""
    return _RUNNING.get() or as_shell_line(sys.argv)


def as_shell_line(arguments: Sequence[str] | str) -> str:
    """A recorded command as a line for a shell, without the folder that its program lies in.

    Args:
        arguments: the program and its arguments, or a line, which stays as it is.
    """
    if isinstance(arguments, str) or not arguments:
        return arguments if isinstance(arguments, str) else ""
    program = PurePath(arguments[0]).name
    if program in ("pursuhint", "pursuhint.exe"):
        return shlex.join(["pursuhint", *arguments[1:]])
    if program == "__main__.py":
        return shlex.join(["python", "-m", "pursuhint", *arguments[1:]])
    return f"from Python ({program})" if program else "from Python"
