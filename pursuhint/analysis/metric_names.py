"""Which metrics are computed: those asked for, and those that are clustered in their place."""

from __future__ import annotations

from collections.abc import Sequence

from pursuhint.errors import PursuhintError
from pursuhint.similarity import NORMALIZED

__all__: list[str] = []


def metric_names(metrics: Sequence[str]) -> tuple[str, ...]:
    """The names asked for, each once.

    Raises:
        PursuhintError: there is none, or they are a single text.
    """
    if isinstance(metrics, str) or not metrics:
        raise PursuhintError(f"metrics must be one or more names in a list, got {metrics!r}")
    return tuple(dict.fromkeys(metrics))


def with_normalized(names: Sequence[str]) -> tuple[str, ...]:
    """The names, each followed by its normalized form if it has one."""
    return tuple(dict.fromkeys(each for name in names for each in (name, NORMALIZED.get(name, name))))
