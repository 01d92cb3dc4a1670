"""The arms that a comparison can have: one way each of choosing the teacher's hint points."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from pursuhint._util.registry import check_name, lookup
from pursuhint.clustering import ALGORITHMS
from pursuhint.errors import PursuhintError
from pursuhint.hints import POSITIONS
from pursuhint.hints.rules import RULES
from pursuhint.hints.schedules import SCHEDULES
from pursuhint.similarity import METRICS

if TYPE_CHECKING:
    from torch import nn

    from pursuhint.features.hint_points import HintPoint
    from pursuhint.hints.plan import HintPlan

_ODD = re.compile(r"[^A-Za-z0-9.+,_-]+")

__all__ = ["ARMS", "DEFAULT_ARMS", "Arm"]


@dataclass(frozen=True)
class Candidates:
    """What the arms of a comparison choose hint points from.

    Attributes:
        teacher: the teacher network.
        points: its hint points, in depth order.
        student_points: the student's hint points, in depth order.
        k: number of hints of the arms whose number of hints is free.
        cluster: the plan of one point of each cluster, by metric, clustering algorithm and position; an empty
            metric or position is that of the recipe.
        by_rule: the plan of a rule of `pursuhint.hints.RULES`, by its name and a seed.
        by_schedule: the plan of a schedule of `pursuhint.hints.SCHEDULES`, by its name and a seed.
        given: the plans of the arms whose hint points were given, by arm.
    """

    teacher: nn.Module
    points: tuple[HintPoint, ...]
    student_points: tuple[HintPoint, ...]
    k: int
    cluster: Callable[[str, str, str], HintPlan]
    by_rule: Callable[[str, int], HintPlan]
    by_schedule: Callable[[str, int], HintPlan]
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
        metric: the metric of that analysis, if it is not the recipe's.
        by_metric: whether the similarity by that metric decides.
        curve: what it needs to know of every layer about the classes, as `pursuhint.hints.Rule`.
        images: whether it runs the teacher on images beside the analysis.
        takes_position: whether the recipe's ``position`` decides which layers it takes.
        schedule: the strategy of its recipe, if its hint points change while the student trains.
    """

    title: str
    description: str
    choose: Callable[[Candidates, int], HintPlan | None]
    teacher: bool = True
    takes_k: bool = False
    clusters: bool = False
    metric: str = ""
    by_metric: bool = True
    curve: str = ""
    images: bool = False
    takes_position: bool = False
    schedule: str = ""

    @property
    def uses(self) -> tuple[str, ...]:
        """The options of a comparison that decide something for this arm."""
        return (
            *["k"] * self.takes_k,
            *["metrics"] * (self.clusters and self.by_metric and not self.metric),
            *["position"] * self.takes_position,
            *["samples"] * (self.clusters or self.images),
            *["max_samples", "stable_at"] * self.clusters,
        )


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


def _clustered(algorithm: str, metric: str = "", position: str = "") -> Callable[[Candidates, int], HintPlan]:
    return lambda candidates, seed: candidates.cluster(metric, algorithm, position)


def _of_rule(name: str) -> Arm:
    rule = RULES[name]
    return Arm(
        rule.title,
        f"hints at {rule.description}",
        lambda candidates, seed: candidates.by_rule(name, seed),
        takes_k=rule.takes_k,
        clusters=rule.analysis,
        by_metric=rule.similarity,
        curve=rule.curve,
        images=rule.images > 0,
        takes_position=rule.takes_position,
    )


def _of_schedule(name: str) -> Arm:
    schedule = SCHEDULES[name]
    return Arm(
        schedule.title,
        f"hints at {schedule.description}",
        lambda candidates, seed: candidates.by_schedule(name, seed),
        takes_k=True,
        schedule=name,
    )


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
            takes_position=True,
        ),
        "segments": Arm(
            "chosen (segments)",
            "hints at the centres of the best contiguous groups of layers",
            _clustered("segments"),
            takes_k=True,
            clusters=True,
            takes_position=True,
        ),
        "random": Arm(
            "random", "hints at random sub-blocks, drawn anew for every seed", _random, takes_k=True
        ),
        **{name: _of_schedule(name) for name in SCHEDULES},
        **{name: _of_rule(name) for name in RULES},
    }
)
"""Every arm by name, in the order in which tables show them."""

DEFAULT_ARMS = tuple(name for name in ARMS if name not in RULES and name not in SCHEDULES)
"""The arms of a comparison that names none."""

GIVEN = "hints:"
"""What the name of an arm with given hint points begins with; see `pursuhint.study.compare`."""

SWEEP = "sweep"
"""The arm that stands for one arm for every layer of the teacher: ``sweep:1``, ``sweep:2``, ..."""

PATTERNS: Mapping[str, str] = MappingProxyType(
    {
        "METRIC:ALGORITHM:POSITION": "hints at one layer of each cluster, e.g. r2cca:kmeans:last",
        "hints:LIST": "hints at given points by position or module name, e.g. hints:7,29,49",
        "hints:FILE": "the hint points of a hints.json",
        SWEEP: "a single hint at every layer in turn, one student each: the landscape of positions",
    }
)
"""Further arms by the form of their names."""


def find_arm(name: str) -> Arm:
    """An arm by name: one of `ARMS`, or of the forms in `PATTERNS`.

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
    parts = name.split(":")
    if len(parts) == 2 and parts[0] == SWEEP and parts[1].isdigit():
        layer = int(parts[1])
        return Arm(
            f"layer {layer} alone",
            f"a single hint at layer {layer}, taught to the student's layer at the same relative depth",
            lambda candidates, seed: _at_one_layer(candidates, layer),
        )
    if len(parts) == 3:
        return _clustered_arm(*parts)
    known = {**ARMS, SWEEP: ARMS["alone"]}
    lookup("arm", known, name)
    if name == SWEEP:
        return Arm("every layer alone", PATTERNS[SWEEP], _no_hints)
    return ARMS[name]


def _clustered_arm(metric: str, algorithm: str, position: str) -> Arm:
    """An arm ``METRIC:ALGORITHM:POSITION``."""
    check_name("metric", METRICS, metric)
    lookup("clustering algorithm", ALGORITHMS, algorithm)
    lookup("position in a cluster", dict.fromkeys(POSITIONS), position)
    return Arm(
        f"{metric}, {algorithm}, {position}",
        f"hints at the {position} of clusters of similar layers, by {algorithm} on {metric}",
        _clustered(algorithm, metric, position),
        takes_k=True,
        clusters=True,
        metric=metric,
    )


def _at_one_layer(candidates: Candidates, layer: int) -> HintPlan:
    """One hint, paired with the student's layer at the same relative depth."""
    from pursuhint.hints.plan import HintPlan

    points, students = candidates.points, candidates.student_points
    plan = HintPlan.of([points[layer - 1]], {"strategy": SWEEP})
    # ceil(layer * students / layers), counted from 1: the last layer teaches the last one.
    return plan.paired([students[-(-layer * len(students) // len(points)) - 1]], "even")


def expand_sweep(arms: Sequence[str], layers: int) -> tuple[str, ...]:
    """The arms with ``sweep`` replaced by one arm for every layer.

    Args:
        arms: names.
        layers: number of candidates of the teacher.

    Raises:
        PursuhintError: an arm ``sweep:N`` names a layer that the teacher does not have.
    """
    every = [f"{SWEEP}:{layer}" for layer in range(1, layers + 1)]
    for arm in arms:
        if is_of_sweep(arm) and arm not in every:
            raise PursuhintError(f"there is no layer {arm.partition(':')[2]}; the teacher has {layers}")
    return tuple(name for arm in arms for name in (every if arm == SWEEP else [arm]))


def is_of_sweep(name: str) -> bool:
    """Whether an arm has a single hint at one layer, ``sweep:N``."""
    return name.startswith(f"{SWEEP}:")


def arm_folder(name: str) -> str:
    """The name of an arm as part of a path."""
    return _ODD.sub("_", name)


WITHOUT_HINTS = ("alone", "kd")
"""The arms that have no hint points."""

CONTROLS = ("conventional", "centers")
"""The arms that others are compared with: common practice, and the control that clustering must beat."""
