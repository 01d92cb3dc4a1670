"""The C library's memory, which training on the CPU takes and gives back thousands of times a step."""

from __future__ import annotations

import ctypes
import functools

import torch

from pursuhint.acceleration.options import Acceleration

__all__ = ["set_up_memory"]

# Parameters of glibc's mallopt, from its malloc.h.
_TRIM_THRESHOLD = -1
_MMAP_MAX = -4


def set_up_memory(acceleration: Acceleration, device: torch.device) -> None:
    """Prepare this process for training on a device, as an engine wants it."""
    if acceleration.keep_memory and device.type == "cpu":
        keep_freed_memory()


@functools.cache
def keep_freed_memory() -> bool:
    """Let the process keep the memory that it frees, and take from there what it needs next.

    As it is, glibc hands large blocks back to the system when they are freed. Feature maps are such blocks:
    every step then has thousands of pages fetched anew and filled with zeros. The process keeps its largest
    size until it ends, which it would reach in every step anyway.

    This holds for the whole process and cannot be taken back. ``MALLOC_`` settings of the environment for
    the same thing are overridden.

    Returns:
        Whether it does so from now on: not where the C library has no such setting (macOS, Windows, musl).
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # no such library, no such function, no such process
        return False
    mallopt.argtypes, mallopt.restype = (ctypes.c_int, ctypes.c_int), ctypes.c_int
    return bool(mallopt(_MMAP_MAX, 0)) and bool(mallopt(_TRIM_THRESHOLD, -1))
