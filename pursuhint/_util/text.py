"""Pieces of sentences that several packages print."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["capital", "percent", "ranges"]


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


def percent(share: float) -> str:
    """A share as whole percent, ``"94 %"``; rounding never gives 0 or 100."""
    value = round(100 * share)
    if value == 100 and share < 1:
        value = 99
    if value == 0 and share > 0:
        value = 1
    return f"{value} %"
