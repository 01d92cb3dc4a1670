"""One layer of the teacher teaches every point of the student: arXiv 2502.04499.

That work tries the last and the middle layer (``position`` ``last`` and ``center``); all layers count as one
group.
"""

from __future__ import annotations

from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.rules.source import RuleSource


def choose(source: RuleSource) -> list[HintPoint]:
    """The same layer k times: the lower middle, the last or the first.

    Raises:
        PursuhintError: the position is ``medoid``, which needs a similarity.
    """
    points = source.points
    places = {"center": (len(points) - 1) // 2, "last": len(points) - 1, "first": 0}
    if source.position not in places:
        raise PursuhintError(
            f"all-to-one takes the layer at position {', '.join(places)}, not {source.position!r} "
            "(--position)"
        )
    return [points[places[source.position]]] * source.k
