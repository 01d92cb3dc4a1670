"""Random masks that follow from the sample and not from its place in the batch."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["hashed_uniform"]

_BITS = 0xFFFFFFFF


def hashed_uniform(indices: Tensor, columns: int, seed: int) -> Tensor:
    """Numbers in [0, 1) that are a hash of sample, column and seed.

    A sample gets the same numbers wherever it stands in the batch, on every rank and device, and after a
    resume; another seed (such as the epoch) gives others. Computed on the device of ``indices``.

    Args:
        indices: numbers of the samples, (N,), at least 0.
        columns: how many numbers each sample gets.
        seed: below 2 ** 31.

    Returns:
        float32, (N, columns), multiples of 2 ** -24.
    """
    column = torch.arange(columns, device=indices.device)
    # 32-bit arithmetic in int64, where products of a 32-bit and a 31-bit number do not overflow.
    h = (indices[:, None] * 0x9E3779B1 + column * 0x85EBCA6B + seed * 0x27D4EB2F) & _BITS
    for _ in range(3):
        h = ((h ^ (h >> 16)) * 0x45D9F3B) & _BITS
    return ((h ^ (h >> 16)) >> 8).to(torch.float32) / 2**24
