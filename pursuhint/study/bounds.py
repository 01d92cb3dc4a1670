"""Bounds of what statistics are asked for; checked before SciPy is imported."""

from __future__ import annotations

from pursuhint.errors import PursuhintError

__all__: list[str] = []

FEWEST_SEEDS = 3
"""Fewest seeds for an interval: the t quantile of two is 12.7, and their spread is known to no digit."""


def check_fraction(name: str, value: float) -> None:
    """Refuse a confidence, power or level outside of (0, 1)."""
    if not 0 < value < 1:
        raise PursuhintError(f"{name} must lie strictly between 0 and 1, got {value}")
