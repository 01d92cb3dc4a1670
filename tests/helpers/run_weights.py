"""The weights that runs end with."""

from __future__ import annotations

import torch
from safetensors.torch import load_file

from pursuhint.training import RunRecord


def weights_of(record: RunRecord) -> dict[str, torch.Tensor]:
    """Weights after the last epoch, by name."""
    return load_file(record.path / "student.safetensors")


def same_weights(first: RunRecord, second: RunRecord) -> bool:
    """Whether two runs ended with the same weights, bit for bit."""
    one, other = weights_of(first), weights_of(second)
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
