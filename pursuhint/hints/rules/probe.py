"""The earliest layers at equal steps of a linear probe's curve: after Alain and Bengio, 2016.

A probe of each layer says how much of the labels its features give away to a linear map: the share of their
variance that least squares explains, corrected for the number of features (``probe`` of
`pursuhint.analysis.ClassCurves`). The hints are spread over that curve instead of over the depth: where it
rises steeply they are close together, and in the deep layers that add nothing there are none.
"""

from __future__ import annotations

from collections.abc import Sequence

from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.rules.source import RuleSource


def choose(source: RuleSource) -> list[HintPoint]:
    """The layers at the quantiles of the curve, see `at_quantiles`. Layers that do not vary are not chosen.

    Raises:
        PursuhintError: fewer than k layers vary.
    """
    curve = source.needed_curve("probe", "probe")
    points = source.needed_similarity("probe").points
    if len(curve) < source.k:
        raise PursuhintError(
            f"probe cannot choose {source.k} hint points: {len(curve)} layers vary over the images; ask for "
            "fewer (--k)"
        )
    return [points[layer] for layer in at_quantiles(curve, source.k)]


def at_quantiles(curve: Sequence[float], k: int) -> list[int]:
    """k different layers, from 0: number j is the earliest at which the curve has done j/k of its rise.

    The rise goes from the first layer to the maximum. Layers that several steps share go to the first of
    them, and the next step takes the layer behind; room is left for the steps that follow.

    Args:
        curve: a number for every layer, in depth order.
        k: number of layers, at most as many as there are.
    """
    start, top = curve[0], max(curve)
    chosen: list[int] = []
    for step in range(1, k + 1):
        wanted = start + (top - start) * step / k
        first = next(layer for layer, value in enumerate(curve) if value >= wanted - 1e-12)
        earliest = chosen[-1] + 1 if chosen else 0
        chosen.append(min(max(first, earliest), len(curve) - (k - step) - 1))
    return chosen
