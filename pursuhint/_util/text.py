"""Pieces of sentences that several packages print."""

from __future__ import annotations

import re
import textwrap
import unicodedata
from collections.abc import Iterable

__all__ = ["capital", "file_size", "folded", "percent", "printable", "ranges"]


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


_BESIDE_A_NUMBER = re.compile(r"(?<=\d) (?=[%±x]|s\b|ms\b|MB\b|GB\b|kB\b)|(?<=±) (?=\d)|(?<=k =) (?=\d)")
_UNBREAKABLE = "\ue000"  # a character that no text has


def folded(text: str, width: int) -> list[str]:
    """A line in parts of at most ``width`` characters, broken between words.

    Numbers and their units stay together, and a longer word (a path) stays whole. Parts after the first are
    indented by two characters more than the line is.
    """
    if len(text) <= width:
        return [text]
    indent = text[: len(text) - len(text.lstrip(" "))]
    parts = textwrap.wrap(
        _BESIDE_A_NUMBER.sub(_UNBREAKABLE, text),
        width,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
        replace_whitespace=False,
    )
    return [part.replace(_UNBREAKABLE, " ") for part in parts]


_REORDERING = re.compile("[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")  # marks of writing direction


def file_size(count: float) -> str:
    """A number of bytes for reading, with decimal units: ``640 bytes``, ``3.4 MB``."""
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= 0.9995 * size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f} bytes"


def printable(text: str, *, longest: int = 4000) -> str:
    r"""One line that a terminal, a figure or a log shows as it is.

    Names of files, tensors and modules may come from a stranger: control characters could move the cursor,
    forge further lines or reverse the order of the text, and a name may be a megabyte long.

    Args:
        text: anything.
        longest: characters; the middle of a longer text is left out.

    Returns:
        The text with control characters, line ends, marks of writing direction and halves of surrogate pairs
        written as in Python, ``\x1b`` or ``\u202e``.

    Example:
        >>> print(printable("conv\x1b[31m"))
        conv\x1b[31m
    """
    if len(text) > longest:
        text = f"{text[: longest // 2]} ... ({len(text):,} characters) ... {text[-(longest // 4) :]}"
    if text.isprintable():
        return text
    return "".join(_escaped(character) for character in text)


def _escaped(character: str) -> str:
    strange = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or _REORDERING.match(character)
    return repr(character)[1:-1] if strange else character
