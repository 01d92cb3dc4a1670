"""Accuracy of linear classifiers on frozen students: table 3 of ICD as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import CYCLE, GRAY, INK, MARKERS, PALE, TEXT, canvas, shortened, tidy

_A_ROW = 3  # panels


@dataclass(frozen=True)
class Measured:
    """Accuracy of one way of training on one target.

    Attributes:
        values: percent, one a seed.
        mean: of the values.
        low: lower end of an interval, if there is one.
        high: upper end of it.
    """

    values: Sequence[float]
    mean: float
    low: float | None = None
    high: float | None = None


def transfer_plot(panels: Mapping[str, Mapping[str, Measured]]) -> Figure:
    """One panel a target and classifier, one row a way of training: mean, interval, and every seed.

    Args:
        panels: measured accuracies by row, by panel; every panel has the same rows.

    Raises:
        PursuhintError: there is nothing to draw, or panels have different rows.
    """
    rows = list(next(iter(panels.values()), {}))
    if not rows or any(list(panel) != rows for panel in panels.values()):
        raise PursuhintError("a picture of a transfer needs the same ways of training for every target")
    names = [shortened(row, 44) for row in rows]
    left, width, gap, bottom, top = 0.3 + 0.068 * max(map(len, names)), 2.2, 0.75, 0.52, 0.34
    height = max(0.55, 0.36 * len(rows))
    columns = min(_A_ROW, len(panels))
    lines = -(-len(panels) // columns)
    figure, place = canvas(left + columns * (width + gap) + 0.05, lines * (bottom + height + top))
    for index, (title, panel) in enumerate(panels.items()):
        line, column = divmod(index, columns)
        y = (lines - 1 - line) * (bottom + height + top) + bottom
        axes = place(left + column * (width + gap), y, width, height)
        for row, one in enumerate(panel.values()):
            color = CYCLE[row % len(CYCLE)]
            if one.low is not None and one.high is not None:
                axes.plot([one.low, one.high], [row, row], color=color, linewidth=2.2, solid_capstyle="butt")
            if len(one.values) > 1:
                axes.plot(one.values, [row + 0.22] * len(one.values), ".", color=GRAY, markersize=5)
            axes.plot(
                one.mean, row, marker=MARKERS[row % len(MARKERS)], markersize=7, color=color,
                markeredgecolor="white",
            )  # fmt: skip
            axes.annotate(
                f"{one.mean:.2f}", (1.03, row), xycoords=("axes fraction", "data"), va="center",
                fontsize=TEXT, color=INK,
            )  # fmt: skip
        tidy(axes)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), names if column == 0 else [""] * len(rows))
        axes.tick_params(axis="y", length=0)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=5, min_n_ticks=2))
        axes.grid(axis="x", color=PALE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_title(shortened(title, 36), fontsize=TEXT, color=INK, loc="left", pad=5)
        axes.set_xlabel("top-1 (%)", fontsize=TEXT, color=INK, labelpad=2)
    return figure
