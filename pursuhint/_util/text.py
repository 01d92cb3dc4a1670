"""Pieces of sentences that several packages print."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["capital", "ranges"]


def capital(text: str) -> str:
    """``text`` with a capital first letter; the other letters keep their case."""
    return text[:1].upper() + text[1:]


def ranges(numbers: Iterable[int], *, to: str = " to ") -> str:
    """``1 to 4, 7, 9 to 10``: integers in ascending order, runs of consecutive ones as first and last.

    Args:
        numbers: in any order, each once.
        to: the text between first and last.
    """
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return ", ".join(str(first) if first == last else f"{first}{to}{last}" for first, last in runs)
