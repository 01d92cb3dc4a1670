"""The arms that a comparison can have: one way each of choosing the teacher's hint positions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["ARMS", "Arm"]


@dataclass(frozen=True)
class Arm:
    """One way of training the student.

    Attributes:
        title: its name in tables and sentences.
        description: what it does, in a clause.
    """

    title: str
    description: str


ARMS: Mapping[str, Arm] = MappingProxyType(
    {
        "alone": Arm("student alone", "no teacher: cross-entropy only"),
        "conventional": Arm("conventional", "hints at the last sub-block of every resolution stage"),
        "centers": Arm("stage centres", "hints at the middle sub-block of every resolution stage"),
        "kmeans": Arm("chosen (k-means)", "hints at the centres of clusters of similar layers, by k-means"),
        "segments": Arm("chosen (segments)", "hints at the centres of the best contiguous groups of layers"),
        "random": Arm("random", "hints at random sub-blocks, drawn anew for every seed"),
    }
)
"""Every arm by name, in the order in which tables show them."""

CONTROLS = ("conventional", "centers")
"""The arms that others are compared with: common practice, and the control that clustering must beat."""
