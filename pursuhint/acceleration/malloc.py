"""Settings of the C library's allocator, from which a training step on the CPU requests thousands of blocks.

They change the whole process for good, so only the command line makes them: a call from Python must not
change its caller's process.
"""

from __future__ import annotations

import ctypes
import functools

import torch

from pursuhint.acceleration.options import Acceleration

__all__ = ["set_up_memory"]

# Parameters of glibc's mallopt, from its malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4


def set_up_memory(acceleration: Acceleration, device: torch.device | str) -> None:
    """Let this process keep freed memory if it trains on the CPU and ``acceleration.keep_memory`` is set.

    The commands that train call it before any other work; functions of the library never do.
    """
    if acceleration.keep_memory and torch.device(device).type == "cpu":
        keep_freed_memory()


@functools.cache
def keep_freed_memory() -> bool:
    """Let the process reuse freed memory instead of returning it to the operating system.

    By default glibc returns large blocks when they are freed. Feature maps are such blocks, so every step
    has thousands of pages mapped again and filled with zeros. With this setting the process stays at its
    largest size until it ends; it would reach that size in every step anyway.

    This holds for the whole process and cannot be undone. It overrides the corresponding ``MALLOC_``
    variables of the environment.

    Returns:
        Whether the setting was made; False where the C library has none (macOS, Windows, musl).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no glibc
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
