"""What the layers say about the classes, over the depth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import (
    CYCLE,
    GRAY,
    INK,
    TEXT,
    canvas,
    check_positions,
    depth_ticks,
    tidy,
)

__all__: list[str] = []


def class_curves(
    curves: Mapping[str, Sequence[float | None]], *, positions: Sequence[int], hints: Sequence[int] = ()
) -> Figure:
    """One panel for every measure, two in a row, the layers from the shallowest to the deepest.

    Args:
        curves: by name of the measure, a number for every layer; None where it is not defined.
        positions: of the layers.
        hints: positions of hints, marked with lines.

    Raises:
        PursuhintError: there is no curve, or one has another number of layers.
    """
    if not curves or any(len(curve) != len(positions) for curve in curves.values()):
        raise PursuhintError(f"class curves need a number for each of {len(positions)} layers")
    check_positions(hints, positions)
    rows = (len(curves) + 1) // 2
    figure, place = canvas(7.4, 2.1 * rows + 0.2)
    ticks = depth_ticks(positions)
    for number, (name, curve) in enumerate(curves.items()):
        row, column = divmod(number, 2)
        axes = place(0.55 + 3.7 * column, 0.5 + 2.1 * (rows - 1 - row), 3.0, 1.3)
        tidy(axes)
        values = [float("nan") if value is None else value for value in curve]
        axes.plot(range(len(values)), values, color=CYCLE[0], marker="o", markersize=3.5, linewidth=1.4)
        for hint in hints:
            axes.axvline(
                list(positions).index(hint), color=GRAY, linewidth=1.0, linestyle=(0, (2, 2)), zorder=0
            )
        axes.set_title(name, fontsize=TEXT, color=INK, loc="left")
        axes.margins(y=0.1)
        axes.set_ylim(bottom=min(0.0, *(value for value in curve if value is not None), 0.0))
        axes.set_xticks(list(ticks), list(ticks.values()))
        if number + 2 >= len(curves):
            axes.set_xlabel("layer", fontsize=TEXT, color=INK)
    return figure
