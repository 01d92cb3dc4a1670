"""RAIL-KD: random layers of the teacher in depth order, drawn anew for every epoch.

M. A. Haidar, N. Anchuri, M. Rezagholizadeh, A. Ghaddar, P. Langlais and P. Poupart, RAIL-KD: RAndom
Intermediate Layer Mapping for Knowledge Distillation, Findings of NAACL 2022,
https://arxiv.org/abs/2109.10164, section 3.1. There, layers of both networks have one width, and every layer
of the student has one projection; here, a loss with connectors has one for every pair of a student's point
and a teacher's layer that it meets.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from pursuhint._util.seeds import derived_seed
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.plan import HintPair, HintPlan
from pursuhint.hints.schedules import DrawnEachEpoch

__all__: list[str] = []

STRATEGY = "random-each-epoch"


def draw(layers: int, k: int, *, seed: int, epoch: int) -> tuple[int, ...]:
    """k different layers, uniformly at random, in depth order. They depend on seed and epoch alone.

    Args:
        layers: number of candidates.
        k: from 1 to ``layers``.
        seed: of the run's hints.
        epoch: of the main stage, from 0.

    Returns:
        Indices from 0.
    """
    return tuple(sorted(random.Random(derived_seed(STRATEGY, seed, epoch)).sample(range(layers), k)))


def check_draw(layers: int, k: int) -> None:
    """Check that k layers can be drawn.

    Raises:
        PursuhintError: k is out of range.
    """
    if not 1 <= k <= layers:
        raise PursuhintError(
            f"{STRATEGY} cannot draw {k} hint points from {layers} layers; ask for 1 to {layers} (--k)"
        )


def random_each_epoch(
    points: Sequence[HintPoint], students: Sequence[HintPoint], *, seed: int, epochs: int
) -> HintPlan:
    """The plan of all epochs: every pair that occurs in one, and which occur in which.

    Args:
        points: all candidates of the teacher.
        students: the student's points; the first learns from the shallowest layer of each draw, and so on.
        seed: of the draws.
        epochs: length of the main stage.

    Raises:
        PursuhintError: the student has no point, or more than there are candidates.
    """
    check_draw(len(points), len(students))
    draws = [
        [
            HintPair(points[layer], student)
            for layer, student in zip(
                draw(len(points), len(students), seed=seed, epoch=epoch), students, strict=True
            )
        ]
        for epoch in range(epochs)
    ]
    rank = {student: place for place, student in enumerate(students)}
    pairs = sorted(
        {pair for pairs in draws for pair in pairs},
        key=lambda pair: (pair.teacher.position, -1 if pair.student is None else rank[pair.student]),
    )
    index = {pair: place for place, pair in enumerate(pairs)}
    schedule = DrawnEachEpoch(tuple(tuple(index[pair] for pair in pairs) for pairs in draws))
    origin: dict[str, Any] = {"strategy": STRATEGY, "k": len(students), "seed": seed}
    return HintPlan(tuple(pairs), origin, schedule=schedule)
