"""Where the reference cases are, and how their networks are filled."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

VARIABLE = "PURSUHINT_GOLDENS"


def golden_folder() -> Path:
    """The folder of reference cases: the one beside this file, or the one that PURSUHINT_GOLDENS names.

    A folder that is named but not there fails the tests; it does not fall back on the other.
    """
    named = os.environ.get(VARIABLE)
    if named is None:
        return Path(__file__).parent / "data"
    folder = Path(named)
    if not folder.is_dir():
        pytest.fail(f"{VARIABLE} names {named!r}, which is not a folder", pytrace=False)
    return folder


def network_files(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Every JSON file that describes networks, with its content."""
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(content, dict) and isinstance(content.get("models"), dict):
            yield path, content


def uniform(name: str, shape: Sequence[int]) -> np.ndarray:
    """Numbers in [0, 1) that follow from a tensor's name and shape alone ("fill_formula" in the files)."""
    seed = zlib.crc32(f"{name}|{'x'.join(map(str, shape))}".encode())
    index = np.arange(math.prod(shape), dtype=np.uint64)
    h = ((seed + index * 2654435761) & 0xFFFFFFFF).astype(np.uint32)
    for _ in range(2):
        h = (h ^ (h >> 16)) * np.uint32(0x45D9F3B)
    h ^= h >> 16
    return (h / 2.0**32).reshape(tuple(shape))


def symmetric(name: str, shape: Sequence[int]) -> np.ndarray:
    """The same, in [-1, 1)."""
    return 2 * uniform(name, shape) - 1


def filled(network: nn.Module) -> nn.Module:
    """The network in float64 and evaluation mode, every tensor filled by the formula."""
    network = network.double()
    values = {name: _values(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items()}
    network.load_state_dict({name: torch.as_tensor(value) for name, value in values.items()})
    return network.eval()


def _values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.zeros(shape, dtype=np.int64)
    if kind == "running_var":
        return 0.5 + uniform(name, shape)
    if kind == "weight":
        if len(shape) == 1:
            return 0.7 + 0.1 * symmetric(name, shape)
        return symmetric(name, shape) * math.sqrt(6 / math.prod(shape[1:]))
    assert kind in ("running_mean", "bias"), f"the formula says nothing about {name}"
    return 0.1 * symmetric(name, shape)


def images() -> Tensor:
    """The two images of every network case."""
    return torch.as_tensor(math.sqrt(3) * symmetric("input", (2, 3, 32, 32)))


def assert_agree(actual: Any, expected: Any, *, tolerance: float, what: str) -> None:
    """Compare numbers within a relative tolerance.

    A number that happens to lie near zero is allowed a thousandth of that tolerance of the largest beside it:
    rounding errors scale with the terms of a sum, not with what remains of them.
    """
    actual, expected = (torch.as_tensor(values, dtype=torch.float64) for values in (actual, expected))
    torch.testing.assert_close(
        actual,
        expected,
        rtol=tolerance,
        atol=tolerance * 1e-3 * float(expected.abs().max()),
        msg=lambda text: f"{what}: {text}",
    )
