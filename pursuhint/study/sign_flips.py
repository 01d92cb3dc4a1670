"""An exact test of paired differences that takes no distribution for granted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["sign_flip_p_value"]

MOST_PAIRS = 20
"""Most pairs whose signs are all tried: half a million sums, in milliseconds."""

_NOISE = 1e-9  # sums of decimal numbers that are equal on paper differ by rounding


def sign_flip_p_value(differences: Sequence[float]) -> float | None:
    """Exact two-sided p-value of paired differences, by flipping their signs in all ways.

    If the arms differ by nothing but chance, every difference could as well have had the other sign. The
    p-value is the fraction of all 2^n choices of signs whose sum is at least as far from zero as the sum that
    was seen (Fisher, 1935, *The design of experiments*, section 21). It needs no normal distribution, but
    cannot be smaller than 2 / 2^n: five pairs reach 0.0625, six 0.031.

    Args:
        differences: one a pair.

    Returns:
        A value in (0, 1]; None without differences, or with more than 20, for which the paired t-test is
        as good.
    """
    values = np.asarray(differences, dtype=float)
    if not 1 <= len(values) <= MOST_PAIRS:
        return None
    sums = values[:1]  # the other sign of the first difference mirrors all sums
    for value in values[1:]:
        sums = np.concatenate([sums + value, sums - value])
    seen = abs(values.sum()) - _NOISE * np.abs(values).sum()
    return float(np.mean(np.abs(sums) >= seen))
