"""The largest sizes that a name, an option or a file may claim, checked before anything is built."""

from __future__ import annotations

import os

from pursuhint.errors import PursuhintError

__all__ = [
    "DEEPEST_NETWORK",
    "LARGEST_CHANNELS",
    "LARGEST_CLASSES",
    "LARGEST_COUNT",
    "LARGEST_SIDE",
    "WIDEST_NETWORK",
    "check_at_most",
    "check_memory",
]

LARGEST_CLASSES = 1_000_000
"""Logits; the largest published classifiers, of faces, have several hundred thousand."""

LARGEST_CHANNELS = 4096
"""Of images; hyperspectral ones have several hundred."""

DEEPEST_NETWORK = 2000
"""Layers of a network whose depth is a number; the deepest published ResNet of CIFAR has 1,202."""

WIDEST_NETWORK = 100
"""Factor on the channels of a network whose width is a number; published ones go to 20."""

LARGEST_COUNT = 2**31 - 1
"""Of what is counted (epochs, images a batch), and of seeds: NumPy and PyTorch take it everywhere."""

LARGEST_SIDE = 16_384
"""Pixels; no network is trained on larger images."""


def check_at_most(bound: int, **values: float) -> None:
    """Refuse numbers above a bound.

    Raises:
        PursuhintError: one is above it; the message names it.
    """
    for name, value in values.items():
        if value > bound:
            raise PursuhintError(f"{name} must be at most {bound:,}, got {value:,}")


def check_memory(needed: int, what: str, advice: str) -> None:
    """Refuse what is larger than the memory of this machine; nothing is checked where that is unknown.

    Args:
        needed: bytes.
        what: takes them, in the plural.
        advice: what to do instead.

    Raises:
        PursuhintError: more is needed than there is.
    """
    try:
        present = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not POSIX
        return
    if needed > present > 0:
        raise PursuhintError(
            f"{what} take {needed / 1e9:,.1f} GB, and this machine has {present / 1e9:,.1f} GB of memory; "
            f"{advice}"
        )
