"""The accuracies of several arms, and their differences to a control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import GRAY, INK, MARKERS, PALE, TEXT, tidy
from pursuhint.report.figures.plain_text import PlainTextFigure
from pursuhint.report.figures.training_curves import series_colors

__all__ = ["Difference", "comparison_plot"]


@dataclass(frozen=True)
class Difference:
    """Mean difference of an arm to the control, in percentage points.

    Attributes:
        mean: over the seeds.
        low: lower end of its interval; None without one.
        high: upper end of it.
        margin: the smallest difference that matters; None if nothing is called equal.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    margin: float | None = None


def comparison_plot(
    arms: Mapping[str, Sequence[float]],
    *,
    control: str,
    differences: Mapping[str, Difference],
    colors: Mapping[str, str] | None = None,
    measure: str = "test accuracy (top-1, %)",
    title: str = "",
) -> Figure:
    """Accuracy of every seed and arm beside the paired differences to the control.

    On the left every dot is one seed, thin lines join the same seed, and a bar marks the mean. On the right
    are the mean differences and their intervals; an interval that does not touch zero is drawn filled, and a
    band around zero is the margin of equality.

    Args:
        arms: results by arm, one a seed, in the same order of seeds; drawn from top to bottom.
        control: the arm that the differences refer to.
        differences: difference to the control, by arm; arms without one are left empty on the right.
        colors: colour by arm; the default is :func:`series_colors`.
        measure: what the results are.
        title: a heading; empty for none.

    Raises:
        PursuhintError: there are no arms, one has no results, or they have different numbers of them.
    """
    counts = {name: len(values) for name, values in arms.items()}
    if not counts or 0 in counts.values() or len(set(counts.values())) > 1:
        raise PursuhintError(f"a comparison plot needs the same number of seeds in every arm, got {counts}")
    names = list(arms)
    palette = colors or series_colors(names)
    looks = {name: ArmLook(row, palette[name], MARKERS[row % len(MARKERS)]) for row, name in enumerate(names)}
    layout = Layout.of(len(names), title=bool(title))
    figure = PlainTextFigure(figsize=(layout.width, layout.height), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=layout.ratios, sharey=True)
    _draw_accuracies(left, arms, looks, measure=measure)
    _draw_differences(right, differences, looks, control=control)
    for axes in (left, right):
        tidy(axes)
        axes.grid(axis="x", color=PALE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    if title:
        figure.suptitle(title, fontsize=TEXT + 2, color=INK)
    return figure


@dataclass(frozen=True)
class Layout:
    """Size of the figure in inches, and the widths of its two parts relative to each other."""

    width: float
    height: float
    ratios: tuple[float, float] = (1.0, 1.05)

    @classmethod
    def of(cls, arms: int, *, title: bool) -> Layout:
        """The layout for so many arms, each a row."""
        return cls(9.2, 1.25 + 0.46 * arms + (0.3 if title else 0.0))


@dataclass(frozen=True)
class ArmLook:
    """The row of an arm, from the top, and how it is drawn in both parts of the figure."""

    row: int
    color: str
    marker: str


def _draw_accuracies(
    axes: Axes, arms: Mapping[str, Sequence[float]], looks: Mapping[str, ArmLook], *, measure: str
) -> None:
    """Every seed a dot, thin lines between the dots of one seed, a bar at the mean of each arm."""
    values = np.array([arms[name] for name in looks], dtype=float)
    seeds, rows = values.shape[1], np.arange(len(looks), dtype=float)
    # A small step down for every seed: accuracies on a small test set are often exactly equal.
    steps = np.linspace(-0.15, 0.15, seeds) if seeds > 1 else np.zeros(1)
    if 1 < seeds <= 10:  # more lines than that hide the dots
        for column in range(seeds):
            axes.plot(values[:, column], rows + steps[column], color="#BBBBBB", linewidth=0.7, zorder=1)
    for look, results in zip(looks.values(), values):
        axes.plot(
            results,
            rows[look.row] + steps,
            linestyle="none",
            marker=look.marker,
            markersize=6,
            markerfacecolor=look.color,
            markeredgecolor="white",
            markeredgewidth=0.7,
            zorder=3,
        )
        mean = float(results.mean())
        ends = [rows[look.row] - 0.3, rows[look.row] + 0.3]
        axes.plot([mean, mean], ends, color=INK, linewidth=2.0, zorder=2)
    axes.set_xlabel(measure, fontsize=TEXT, color=INK)
    axes.set_yticks(rows, list(looks))
    axes.set_ylim(len(looks) - 0.4, -0.6)


def _draw_differences(
    axes: Axes, differences: Mapping[str, Difference], looks: Mapping[str, ArmLook], *, control: str
) -> None:
    """Mean differences to the control with their intervals, and the same numbers beside them."""
    axes.axvline(0, color=GRAY, linewidth=1.0, zorder=1)
    margin = max((found.margin or 0.0 for found in differences.values()), default=0.0)
    texts: list[tuple[float, str]] = []
    for name, look in looks.items():
        if name == control:
            texts.append((float(look.row), "control"))
        elif name in differences:
            texts.append((float(look.row), _draw_difference(axes, differences[name], look)))
    limit = max(abs(edge) for edge in axes.get_xlim())
    axes.set_xlim(-limit, limit)
    if margin:  # it may end outside of the picture, and must not widen it
        axes.axvspan(-min(margin, limit), min(margin, limit), color=PALE, zorder=0)
    axes.set_xlabel(f"difference to {control} (points)", fontsize=TEXT, color=INK)
    for y, text in texts:
        axes.annotate(
            text,
            (1.02, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=TEXT - 0.5,
            color=INK,
            family="DejaVu Sans Mono",
        )


def _draw_difference(axes: Axes, difference: Difference, look: ArmLook) -> str:
    """One arm's difference; filled where its interval excludes zero. Returns it as text."""
    text, decided = f"{difference.mean:+.2f}", False
    low, high = difference.low, difference.high
    if low is None or high is None:
        text += "  no interval"
    else:
        axes.plot(
            [low, high],
            [look.row, look.row],
            color=look.color,
            linewidth=2.2,
            zorder=2,
            solid_capstyle="butt",
        )
        decided = low > 0 or high < 0
        text += f"  [{low:+.2f}, {high:+.2f}]"
    axes.plot(
        difference.mean,
        look.row,
        linestyle="none",
        marker=look.marker,
        markersize=7,
        markerfacecolor=look.color if decided else "white",
        markeredgecolor=look.color,
        markeredgewidth=1.5,
        zorder=3,
    )
    return text
