"""Parse JSON within bounds of depth and of the size of integers."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["parse_json"]

DEEPEST = 64
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
LONGEST_INTEGER = 20  # digits; 2^63 has 19


def parse_json(text: str) -> Any:
    """Parse a JSON document.

    Raises:
        ValueError: it is not JSON (which has no NaN and no infinity), holds half of a surrogate pair, is
            nested more than `DEEPEST` levels, or holds an integer of more than `LONGEST_INTEGER` digits,
            which no count or seed needs.
    """
    try:
        value = json.loads(text, parse_int=_integer, parse_constant=_not_a_number)
    except RecursionError:
        raise ValueError(f"nested more than {DEEPEST} levels") from None
    if _SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()  # half a character cannot be printed
    level, depth = [value], 0
    while level := [inner for outer in level for inner in _children(outer)]:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(f"nested more than {DEEPEST} levels")
    return value


def _integer(digits: str) -> int:
    if len(digits.lstrip("-")) > LONGEST_INTEGER:
        raise ValueError(f"an integer of {len(digits)} digits")
    return int(digits)


def _not_a_number(name: str) -> float:
    raise ValueError(f"{name}, which is not a number of JSON")


def _children(value: Any) -> list[Any]:
    """The containers in a container."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return [one for one in inner if isinstance(one, dict | list)]
