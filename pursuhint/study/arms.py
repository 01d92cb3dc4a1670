"""The arms that a comparison can have: one way each of choosing the teacher's hint points."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from pursuhint._util.registry import lookup

if TYPE_CHECKING:
    from torch import nn

    from pursuhint.features.hint_points import HintPoint
    from pursuhint.hints.plan import HintPlan

_ODD = re.compile(r"[^A-Za-z0-9.+,_-]+")

__all__ = ["ARMS", "Arm"]


@dataclass(frozen=True)
class Candidates:
    """What the arms of a comparison choose hint points from.

    Attributes:
        teacher: the teacher network.
        points: its hint points, in depth order.
        k: number of hints of the arms whose number of hints is free.
        cluster: the plan of the points at the centers of clusters, by the name of the clustering algorithm.
        given: the plans of the arms whose hint points were given, by arm.
    """

    teacher: nn.Module
    points: tuple[HintPoint, ...]
    k: int
    cluster: Callable[[str], HintPlan]
    given: Mapping[str, HintPlan]


@dataclass(frozen=True)
class Arm:
    """One way of training the student.

    Attributes:
        title: its name in tables and sentences.
        description: what it does, in a clause.
        choose: the hint points for candidates and a seed; None for no hints. The same for every seed unless
            the arm draws at random.
        teacher: whether the student has a teacher.
        takes_k: whether its number of hints is free. Otherwise the arm has one for every resolution stage,
            those that were given, or none.
        clusters: whether it needs an analysis of the teacher.
    """

    title: str
    description: str
    choose: Callable[[Candidates, int], HintPlan | None]
    teacher: bool = True
    takes_k: bool = False
    clusters: bool = False


def _no_hints(candidates: Candidates, seed: int) -> None:
    return None


def _conventional(candidates: Candidates, seed: int) -> HintPlan:
    from pursuhint.hints.plan import HintPlan

    return HintPlan.conventional(candidates.teacher, candidates.points)


def _stage_centers(candidates: Candidates, seed: int) -> HintPlan:
    from pursuhint.hints.plan import HintPlan

    return HintPlan.stage_centers(candidates.points)


def _random(candidates: Candidates, seed: int) -> HintPlan:
    from pursuhint.hints.plan import HintPlan

    return HintPlan.random(candidates.points, candidates.k, seed)


def _clustered(algorithm: str) -> Callable[[Candidates, int], HintPlan]:
    return lambda candidates, seed: candidates.cluster(algorithm)


ARMS: Mapping[str, Arm] = MappingProxyType(
    {
        "alone": Arm("student alone", "no teacher: cross-entropy only", _no_hints, teacher=False),
        "kd": Arm(
            "no hints (KD)",
            "the teacher's soft targets without hints: the losses that look at no hint point, or KD",
            _no_hints,
        ),
        "conventional": Arm(
            "conventional", "hints at the last sub-block of every resolution stage", _conventional
        ),
        "centers": Arm(
            "stage centres", "hints at the middle sub-block of every resolution stage", _stage_centers
        ),
        "kmeans": Arm(
            "chosen (k-means)",
            "hints at the centres of clusters of similar layers, by k-means",
            _clustered("kmeans"),
            takes_k=True,
            clusters=True,
        ),
        "segments": Arm(
            "chosen (segments)",
            "hints at the centres of the best contiguous groups of layers",
            _clustered("segments"),
            takes_k=True,
            clusters=True,
        ),
        "random": Arm(
            "random", "hints at random sub-blocks, drawn anew for every seed", _random, takes_k=True
        ),
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
        return Arm(
            f"hints at {where}",
            f"hints at the points that were given: {where}",
            lambda candidates, seed: candidates.given[name],
        )
    return lookup("arm", ARMS, name)


def arm_folder(name: str) -> str:
    """The name of an arm as part of a path."""
    return _ODD.sub("_", name)


WITHOUT_HINTS = ("alone", "kd")
"""The arms that have no hint points."""

CONTROLS = ("conventional", "centers")
"""The arms that others are compared with: common practice, and the control that clustering must beat."""
