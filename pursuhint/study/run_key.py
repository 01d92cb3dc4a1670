"""Which run of a study."""

from __future__ import annotations

from typing import NamedTuple


class RunKey(NamedTuple):
    """Which run of a study: an arm (or a method) by name, and a seed."""

    arm: str
    seed: int
