"""Processes that have imported torch when they start.

A test that looks at exit statuses, signals, streams or several processes needs real ones. It does not look at
the four seconds of processor time in which Python imports torch and what else is needed. A server that has
imported them, the one of :mod:`multiprocessing`, forks these processes; each has its own streams, folder,
environment, arguments and exit status. What is about a fresh interpreter (what is imported, from where, how
fast) takes :mod:`subprocess`.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import io
import multiprocessing
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import traceback
import types
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import forkserver, reduction
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, NoReturn, Self, TextIO

import torch.multiprocessing

ROOT = Path(__file__).parents[2]
PRELOADED = (
    "accelerate", "matplotlib.pyplot", "pytest", "sklearn.datasets", "sklearn.metrics",
    "torch.distributed.fsdp", "torch.multiprocessing.spawn", "torchvision",
    "pursuhint.analysis.run_analysis", "pursuhint.cli.main", "pursuhint.report",
    "pursuhint.study.run_comparison", "pursuhint.training.run_training",
)  # fmt: skip
ONE_THREAD = {"OMP_NUM_THREADS": "1"}

Finished = subprocess.CompletedProcess[str]


def server() -> ForkServerContext:
    """The server, which starts with the first process that it forks."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    before = dict(os.environ)
    os.environ.update(ONE_THREAD)
    try:
        with contextlib.chdir(ROOT):  # nothing in the folder of a test is imported
            forkserver.ensure_running()
    finally:
        os.environ.clear()
        os.environ.update(before)
    return context


def spawn(function: Callable[..., None], *arguments: Any, processes: int) -> None:
    """Call a function with its rank and arguments in processes, and wait for them.

    Raises:
        torch.multiprocessing.ProcessRaisedException: one of them raised.
        torch.multiprocessing.ProcessExitedException: one of them ended in another way.
    """
    server()
    torch.multiprocessing.start_processes(_call, (function, arguments), processes, start_method="forkserver")


class Process:
    """``python ...`` as a process; used as :class:`subprocess.Popen` with text streams.

    Args:
        *words: what stands behind ``python``: ``-m module``, ``-c code`` or a file, and arguments; ``-P``
            before ``-c`` leaves the current folder out of the path.
        cwd: its folder; the current one by default.
        environment: its environment, beside one thread for OpenMP; the present one by default.
        stdout: ``subprocess.PIPE`` or a file number.
        stderr: the same.
    """

    def __init__(
        self,
        *words: str | Path,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> None:
        self.stdout, out = _reader(stdout)
        self.stderr, err = _reader(stderr)
        given = {**(os.environ if environment is None else environment), **ONE_THREAD}
        start = _Start([str(word) for word in words], str(cwd or Path.cwd()), given)
        with open(os.devnull) as nothing:
            streams = [_Descriptor(number) for number in (nothing.fileno(), out, err)]
            self._process = server().Process(target=_become, args=(start, streams))
            self._process.start()
        for number, given_number in ((out, stdout), (err, stderr)):
            if given_number == subprocess.PIPE:
                os.close(number)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: it is still running.
        """
        self._process.join(timeout)
        if self._process.exitcode is None:
            raise subprocess.TimeoutExpired("python", timeout or 0.0)
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if kind is not None:
            self.kill()
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait()


def finished(
    *words: str | Path,
    cwd: Path | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 240,
) -> Finished:
    """``python ...`` as a process, waited for; its exit status and what it wrote."""
    return together([words], cwd=cwd, environments=[environment], timeout=timeout)[0]


def together(
    commands: Sequence[Sequence[str | Path]],
    *,
    environments: Sequence[Mapping[str, str] | None],
    cwd: Path | None = None,
    timeout: float = 240,
) -> list[Finished]:
    """Several processes at the same time, waited for."""
    with contextlib.ExitStack() as stack:
        running = []
        for words, environment in zip(commands, environments, strict=True):
            out, err = (stack.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2))
            child = Process(
                *words, cwd=cwd, environment=environment, stdout=out.fileno(), stderr=err.fileno()
            )
            running.append((stack.enter_context(child), out, err))
        ended = []
        for words, (child, out, err) in zip(commands, running, strict=True):
            status = child.wait(timeout)
            for file in (out, err):
                file.seek(0)
            ended.append(subprocess.CompletedProcess([*map(str, words)], status, out.read(), err.read()))
        return ended


def launched(*words: str | Path, processes: int = 2, **variables: str) -> list[Finished]:
    """``python ...`` in several processes, in the environment that ``torchrun`` gives them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, **variables}
    common |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
    ranks = [{**common, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(processes)]
    return together([words] * processes, environments=ranks)


# -- in the processes ----------------------------------------------------------------------------------------


def _call(rank: int, function: Callable[..., None], arguments: Sequence[Any]) -> None:
    gc.freeze()
    function(rank, *arguments)


class _Descriptor:
    """A file number on its way to the process."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _detach, (reduction.DupFd(self._number),)


def _detach(descriptor: Any) -> int:
    number: int = descriptor.detach()
    return number


class _Start:
    """Words behind ``python``, folder and environment."""

    def __init__(self, words: list[str], folder: str, environment: dict[str, str]) -> None:
        self.words, self.folder, self.environment = words, folder, environment


def _reader(stream: int) -> tuple[TextIO | None, int]:
    """A reader if one is asked for, and the number that the process writes to."""
    if stream != subprocess.PIPE:
        return None, stream
    ours, theirs = os.pipe()
    return open(ours, encoding="utf-8"), theirs


def _become(start: _Start, streams: list[int]) -> NoReturn:
    """Be ``python ...`` from here on."""
    gc.freeze()  # to look through what the server has imported would copy its memory
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(start.environment)
    os.chdir(start.folder)
    sys.stdin = sys.__stdin__ = io.TextIOWrapper(io.FileIO(0), encoding="utf-8")
    sys.stdout = sys.__stdout__ = _writer(1, "strict")
    sys.stderr = sys.__stderr__ = _writer(2, "backslashreplace")
    own = [path for path in sys.path if path not in ("", str(ROOT))]
    named = [path for path in start.environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    here = [] if start.words[0] == "-P" else [""]
    first, *rest = start.words if here else start.words[1:]
    status: object = 0
    try:
        if first == "-m":
            sys.argv, sys.path = rest, [start.folder, *named, *own]
            runpy.run_module(rest[0], run_name="__main__", alter_sys=True)
        elif first == "-c":
            sys.argv, sys.path = ["-c", *rest[1:]], [*here, *named, *own]
            sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(rest[0], "<string>", "exec"), vars(sys.modules["__main__"]))
        else:
            sys.argv, sys.path = start.words, [str(Path(first).parent), *named, *own]
            runpy.run_path(first, run_name="__main__")
    except SystemExit as stop:
        status = stop.code or 0
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    except BaseException:
        traceback.print_exc()
        status = 1
    if not isinstance(status, int):
        print(status, file=sys.stderr)
        status = 1
    _end(status)


def _end(status: int) -> NoReturn:
    """As an interpreter ends, but for the destruction of its modules, which takes two seconds in a fork."""
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    try:
        sys.stdout.flush()
    except OSError:
        traceback.print_exc()
        status = 120
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(status)


def _writer(number: int, errors: str) -> TextIO:
    raw = io.FileIO(number, "w")
    always = raw.isatty() or number == 2
    return io.TextIOWrapper(io.BufferedWriter(raw), encoding="utf-8", errors=errors, line_buffering=always)
