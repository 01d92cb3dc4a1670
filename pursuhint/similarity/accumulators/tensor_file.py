"""The state of an accumulator that is a few tensors of fixed shapes, in a safetensors file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pursuhint._util.atomic_files import atomic_path
from pursuhint.errors import PursuhintError


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Save tensors by name."""
    with atomic_path(path) as temporary:
        save_file({name: tensor.cpu() for name, tensor in tensors.items()}, temporary)


def read_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Fill tensors with the saved ones of their names.

    Raises:
        PursuhintError: the file is missing or damaged, or has tensors of other shapes.
    """
    try:
        saved = load_file(path)
        for name, tensor in tensors.items():
            tensor.copy_(saved[name])
    except (OSError, KeyError, RuntimeError, SafetensorError) as error:
        raise PursuhintError(f"cannot read {path}: {error}") from error
