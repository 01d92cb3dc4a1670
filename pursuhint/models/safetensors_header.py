"""The header of a safetensors file: its texts in one order, so that equal weights give equal files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

__all__: list[str] = []

_LENGTH_BYTES = 8  # a little-endian number before the header, which is JSON


def sort_metadata(path: Path) -> None:
    """Rewrite a file's header with its metadata sorted by name.

    The library keeps them in a hash map, whose order changes from process to process. The header keeps its
    length, because the offsets of the tensors count from its end.
    """
    with path.open("r+b") as file:
        size = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        header = json.loads(file.read(size))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= size:  # longer only where the library escapes less than JSON demands
            file.seek(_LENGTH_BYTES)
            file.write(text.ljust(size))


def classes_of_weights(path: Path) -> tuple[str, ...] | None:
    """The names of the classes that weights were trained on, as their file says.

    Args:
        path: a file of weights of any format.

    Returns:
        In the order of the logits; None if the file does not say.
    """
    names = _value(path, "class_names")
    strings = isinstance(names, list) and all(isinstance(name, str) for name in names)
    return tuple(names) if strings else None


def preprocessing_of_weights(path: Path) -> Mapping[str, Any] | None:
    """The preprocessing of the images that weights were trained on, as their file says.

    Args:
        path: a file of weights of any format.

    Returns:
        As it stands there, unchecked; None if the file does not say.
    """
    values = _value(path, "preprocessing")
    return values if isinstance(values, Mapping) else None


def _value(path: Path, key: str) -> Any:
    """A text of the metadata as JSON; None where there is none that can be read."""
    try:
        with safe_open(path, framework="np") as file:
            return json.loads((file.metadata() or {}).get(key, "null"))
    except (OSError, ValueError, RecursionError, SafetensorError):
        return None
