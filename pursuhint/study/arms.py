"""The arms that a comparison can have: one way each of choosing the teacher's hint positions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from pursuhint._util.registry import lookup

_ODD = re.compile(r"[^A-Za-z0-9.+,_-]+")

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

GIVEN = "hints:"
"""What the name of an arm with given hint points begins with; see `pursuhint.study.compare`."""


def find_arm(name: str) -> Arm:
    """An arm by name: one of `ARMS`, or ``hints:7,29,49`` and ``hints:FILE`` for given hint points.

    Raises:
        PursuhintError: there is none; the message suggests the closest.
    """
    if name.startswith(GIVEN) and len(name) > len(GIVEN):
        where = name.removeprefix(GIVEN)
        return Arm(f"hints at {where}", f"hints at the points that were given: {where}")
    return lookup("arm", ARMS, name)


def arm_folder(name: str) -> str:
    """The name of an arm as part of a path."""
    return _ODD.sub("_", name)


CONTROLS = ("conventional", "centers")
"""The arms that others are compared with: common practice, and the control that clustering must beat."""
