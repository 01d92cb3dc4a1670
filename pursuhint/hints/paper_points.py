"""Places that papers give their hints by a rule: the last map, the second stage, the stem and the stages."""

from __future__ import annotations

import glob
from typing import TYPE_CHECKING

from pursuhint._util.network_input import NetworkInput
from pursuhint._util.wrappers import unwrapped
from pursuhint.features.hint_points import HintPoint, conventional_points, find_hint_points

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

PAPER_POINTS = ("last-map", "second-stage", "stem-and-stages")
"""The names of the rules of `points_by_rule`."""


def points_by_rule(
    rule: str, network: nn.Module, points: Sequence[HintPoint], example: NetworkInput
) -> tuple[HintPoint, ...]:
    """The points of one network, by one of `PAPER_POINTS`.

    Args:
        rule: ``"last-map"``, the end of the last resolution stage; ``"second-stage"``, the end of the second
            one, or of the only one; ``"stem-and-stages"``, the output of the stem, where the network names it
            (``stage_taps``), and the end of every stage.
        network: teacher or student.
        points: all its candidates.
        example: images of the size that will be used, (N, C, H, W).
    """
    ends = conventional_points(network, points)
    if rule == "last-map":
        return ends[-1:]
    if rule == "second-stage":
        return ends[1:2] or ends[-1:]
    named = tuple(getattr(unwrapped(network), "stage_taps", ()))[:1]
    found = [point for point in points if point.module in named]
    if named and not found:
        found = list(
            find_hint_points(
                network, example, activation=points[0].activation, include=[glob.escape(named[0])]
            )
        )
    return (*found, *ends)
