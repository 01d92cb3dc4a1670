"""Reproducible randomness: seeds derived from names, and permutations independent of library versions.

Order and augmentation of an epoch use a ``torch.Generator`` with a derived seed. Validation splits must
survive an upgrade of torch or numpy, neither of which promises the same stream in its next version; they use
a fixed integer hash instead.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

__all__ = ["derived_generator", "derived_seed", "stable_permutation"]


def derived_seed(*parts: int | str) -> int:
    """Hash integers and strings into one seed in 0..2^63-1; different parts give unrelated seeds."""
    text = "/".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big") >> 1


def derived_generator(*parts: int | str) -> torch.Generator:
    """A private CPU generator seeded with :func:`derived_seed`; the global generator is not touched."""
    return torch.Generator().manual_seed(derived_seed(*parts))


def stable_permutation(count: int, seed: int) -> Tensor:
    """A permutation of ``0..count-1`` (int64) that depends on ``count`` and ``seed`` only, in every version.

    Sample ``i`` gets the ``i``-th output of SplitMix64 as its key, and the keys are sorted.

    Reference: G. Steele, D. Lea and C. Flood, Fast Splittable Pseudorandom Number Generators, OOPSLA 2014.
    """
    start = np.uint64(derived_seed("permutation", seed))
    state = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15) + start
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return torch.from_numpy(np.argsort(state ^ (state >> np.uint64(31)), kind="stable").astype(np.int64))
