"""One seed for a run, and independent seeds derived from it for everything that is drawn."""

from __future__ import annotations

import hashlib

__all__ = ["derive_seed"]


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A seed for one purpose: the same for the same arguments, unrelated for different ones.

    Args:
        seed: of the run.
        purpose: what it is for, e.g. ``"epoch", 3``.

    Returns:
        An integer in [0, 2**63).
    """
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
