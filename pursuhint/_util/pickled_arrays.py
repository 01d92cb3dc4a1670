"""NumPy arrays from the records of `pursuhint._util.inert_pickle`."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np

from pursuhint._util.inert_pickle import Call

__all__ = ["array_of", "is_array", "is_array_name"]

_RECONSTRUCT = ("numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct")
_SCALAR = ("numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar")
_NAMES = frozenset({*_RECONSTRUCT, *_SCALAR, "numpy.ndarray", "numpy.dtype", "_codecs.encode"})
_NUMBERS = re.compile(r"(b|i|u|f|c)(1|2|4|8|16)|\?")


def is_array_name(name: str) -> bool:
    """Whether a global belongs to the pickle of an array or scalar of numbers."""
    return name in _NAMES


def is_array(value: Any) -> bool:
    """Whether a value of a pickle is a NumPy array."""
    return isinstance(value, Call) and value.name in _RECONSTRUCT


def array_of(value: Call) -> np.ndarray:
    """The array that a record describes, read-only, over the bytes of the pickle.

    Raises:
        ValueError: it is not an array of numbers, or its bytes do not match its shape.
    """
    match value.state:
        case (int(), tuple() as shape, Call(name="numpy.dtype") as dtype, fortran, raw):
            return _array(_dtype(dtype), shape, _bytes(raw), order="F" if fortran else "C")
    raise ValueError("its array is not stored as NumPy stores one")


def _dtype(call: Call) -> np.dtype:
    """Numbers only: an object dtype would turn bytes of the file into pointers."""
    kind = call.arguments[0] if call.arguments else None
    kind = kind.decode("latin-1") if isinstance(kind, bytes) else kind
    if not isinstance(kind, str) or not _NUMBERS.fullmatch(kind):
        raise ValueError(f"elements of type {str(kind)[:20]!r}, expected numbers")
    match call.state:
        case (int(), "<" | b"<" | "=" | b"=" | "|" | b"|", *_) | None:
            order = "<"
        case (int(), ">" | b">", *_):
            order = ">"
        case _:
            raise ValueError("elements of unknown byte order")
    return np.dtype(kind).newbyteorder(order)  # type: ignore[arg-type]


def _bytes(raw: Any) -> bytes:
    match raw:
        case bytes():
            return raw
        case Call(name="_codecs.encode", arguments=(str() as text, "latin1" | "latin-1")):
            return text.encode("latin-1")  # bytes in a pickle of protocol 2, written by Python 3
    raise ValueError(f"elements stored as {type(raw).__name__}, expected bytes")


def _array(dtype: np.dtype, shape: tuple[Any, ...], raw: bytes, *, order: Any = "C") -> np.ndarray:
    if not all(type(side) is int and side >= 0 for side in shape) or len(shape) > 32:
        raise ValueError("a shape that is not a list of sizes")
    if math.prod(shape) * dtype.itemsize != len(raw):
        raise ValueError(f"shape {shape} of {dtype} in {len(raw)} bytes")
    return np.frombuffer(raw, dtype=dtype).reshape(shape, order=order)
