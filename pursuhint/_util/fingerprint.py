"""Hashes that say whether two networks, sets of tensors or files are identical."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pursuhint._util.wrappers import original_modules

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "fingerprint_file",
    "fingerprint_network",
    "fingerprint_tensors",
    "fingerprint_values",
    "flatten_keys",
]


def fingerprint_file(path: str | Path) -> str | None:
    """SHA-256 of a file's content; None if it cannot be read."""
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def fingerprint_network(network: nn.Module) -> str:
    """SHA-256 of a network's parameters and buffers, names included, without wrappers around them."""
    with original_modules(network) as inner:
        return fingerprint_tensors(inner.state_dict())


def fingerprint_tensors(tensors: Mapping[str, Any]) -> str:
    """SHA-256 of named tensors: names, types, shapes and bytes, in the given order.

    Args:
        tensors: by name. Values that are not tensors (``get_extra_state`` may return any) are left out.
    """
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        if isinstance(tensor, torch.Tensor):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def fingerprint_values(values: Mapping[str, Any]) -> str:
    """SHA-256 of named settings: plain values as JSON (others as their text), tensors by their content."""
    plain = {name: value for name, value in values.items() if not isinstance(value, torch.Tensor)}
    text = json.dumps(plain, sort_keys=True, default=str)
    return hashlib.sha256(f"{text} {fingerprint_tensors(values)}".encode()).hexdigest()


def flatten_keys(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Join nested keys by dots: ``{"a": {"b": 1}}`` becomes ``{"a.b": 1}``. Empty mappings stay values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten_keys(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
