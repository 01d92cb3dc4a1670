"""Lists of classes as people type them."""

from __future__ import annotations

from pursuhint.errors import PursuhintError


def parse_classes(text: str) -> tuple[int, ...]:
    """The classes of a text such as ``0-49`` or ``3,7,20-29``, in its order.

    Raises:
        PursuhintError: a part is neither a number nor a range, or a class is listed twice.
    """
    classes: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()) or len(part) > 20:
            raise PursuhintError(
                f"classes are numbers and ranges, as in 0-49 or 3,7,20-29; got {part[:40]!r}"
            )
        end = int(last) if dash else int(first)
        if end < int(first) or end > 1_000_000:
            raise PursuhintError(
                f"the range of classes {part.strip()} ends before it begins or above 1,000,000"
            )
        classes += range(int(first), end + 1)
    if len(set(classes)) < len(classes):
        raise PursuhintError(f"the classes {text[:60]} list one class twice")
    return tuple(classes)
