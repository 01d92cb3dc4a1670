"""The hint positions that PURSUhInT publishes in its table 3, for the teachers it has."""

from __future__ import annotations

from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint, resolve_point
from pursuhint.hints.rules.source import RuleSource
from pursuhint.published.names import published_network
from pursuhint.published.results import published_results


def choose(source: RuleSource) -> list[HintPoint]:
    """The published positions for the teacher and the activation of the points.

    Where the table has several rows for a teacher (resnet110 before the activation), the losses that look at
    the points decide: AT's row for ``at`` alone, else the row of FitNet and VID.

    Raises:
        PursuhintError: none are published for this teacher, or it has fewer layers.
    """
    rows = [
        row for row in published_results() if row.source == "pursuhint" and row.metric == "hint positions"
    ]
    rows = [row for row in rows if row.method == "PURSUhInT"]
    activation = f"{source.points[0].activation}-activation"
    own = [row for row in rows if row.teacher == published_network(source.teacher_name)]
    fitting = [row for row in own if row.note.startswith(activation)]
    if not fitting:
        known = ", ".join(dict.fromkeys(row.teacher for row in rows))
        what = f"no {activation} positions" if own else "no positions"
        raise PursuhintError(
            f"{what} are published for the teacher {source.teacher_name or 'without a name'}; there are "
            f"some for {known}"
        )
    row = min(fitting, key=lambda row: (", AT" in row.note) != (tuple(source.losses) == ("at",)))
    return [resolve_point(source.points, position) for position in row.value.split()]
