"""Correction of p-values for the number of tests."""

from __future__ import annotations

from collections.abc import Sequence

from pursuhint.errors import PursuhintError

__all__ = ["holm"]


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Holm's step-down correction of several p-values (Holm, 1979, Scandinavian Journal of Statistics 6).

    The smallest of m p-values is multiplied by m, the next one by m - 1 and so on; a running maximum keeps
    the order. Compared with the significance level, the results keep the chance of *any* false finding among
    the m below it, whatever the dependence between the tests.

    Args:
        p_values: each in [0, 1]; none gives none.

    Returns:
        The adjusted p-values in the order given, each in [0, 1].

    Raises:
        PursuhintError: a value lies outside of [0, 1].
    """
    for value in p_values:
        if not 0 <= value <= 1:
            raise PursuhintError(f"a p-value lies between 0 and 1, got {value}")
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = running
    return tuple(adjusted)
