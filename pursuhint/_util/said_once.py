"""Notes on an object of the user's that are given once, however many functions it is passed to."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

__all__ = ["first_time"]

_given: dict[int, tuple[weakref.ref[Any], set[str]]] = {}  # by identity: arrays and tensors have no truth


def first_time(text: str, source: Any) -> bool:
    """Whether this text was not yet given for these data; it counts as given from now on.

    Data are known by the first array, tensor, data set or image in them, as long as it exists; data without
    any are always new.
    """
    while isinstance(source, Mapping | list | tuple) and source:
        source = next(iter(source.values() if isinstance(source, Mapping) else source))
    key = id(source)
    try:
        reference = weakref.ref(source, lambda _: _given.pop(key, None))
    except TypeError:  # a number, an empty tuple
        return True
    texts = _given.setdefault(key, (reference, set()))[1]
    if text in texts:
        return False
    texts.add(text)
    return True
