"""The accuracies of several arms, and their differences to a control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import GRAY, INK, MARKERS, PALE, TEXT, tidy
from pursuhint.report.figures.training_curves import series_colors

__all__ = ["Difference", "comparison_plot"]


@dataclass(frozen=True)
class Difference:
    """Mean difference of an arm to the control, with its interval where there is one."""

    mean: float
    low: float | None = None
    high: float | None = None


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
    are the mean differences and their intervals; an interval that does not touch zero is drawn filled.

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
    seeds = next(iter(counts.values()))
    names = list(arms)
    palette = colors or series_colors(names)
    figure = Figure(figsize=(9.2, 1.25 + 0.46 * len(names) + (0.3 if title else 0.0)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.05), sharey=True)
    ys = np.arange(len(names), dtype=float)

    values = np.array([arms[name] for name in names], dtype=float)
    # A small step down for every seed: accuracies on a small test set are often exactly equal.
    steps = np.linspace(-0.15, 0.15, seeds) if seeds > 1 else np.zeros(1)
    if 1 < seeds <= 10:
        for column in range(seeds):
            left.plot(values[:, column], ys + steps[column], color="#BBBBBB", linewidth=0.7, zorder=1)
    for row, name in enumerate(names):
        left.plot(
            values[row],
            ys[row] + steps,
            linestyle="none",
            marker=MARKERS[row % len(MARKERS)],
            markersize=6,
            markerfacecolor=palette[name],
            markeredgecolor="white",
            markeredgewidth=0.7,
            zorder=3,
        )
        mean = float(values[row].mean())
        left.plot([mean, mean], [ys[row] - 0.3, ys[row] + 0.3], color=INK, linewidth=2.0, zorder=2)
    left.set_xlabel(measure, fontsize=TEXT, color=INK)
    left.set_yticks(ys, names)
    left.set_ylim(len(names) - 0.4, -0.6)

    right.axvline(0, color=GRAY, linewidth=1.0, zorder=1)
    texts: list[tuple[float, str]] = []
    for row, name in enumerate(names):
        if name == control:
            texts.append((ys[row], "control"))
            continue
        difference = differences.get(name)
        if difference is None:
            continue
        interval = difference.low is not None and difference.high is not None
        text = f"{difference.mean:+.2f}"
        decided = False
        if difference.low is not None and difference.high is not None:
            right.plot(
                [difference.low, difference.high],
                [ys[row], ys[row]],
                color=palette[name],
                linewidth=2.2,
                zorder=2,
                solid_capstyle="butt",
            )
            decided = difference.low > 0 or difference.high < 0
            text += f"  [{difference.low:+.2f}, {difference.high:+.2f}]"
        right.plot(
            difference.mean,
            ys[row],
            linestyle="none",
            marker=MARKERS[row % len(MARKERS)],
            markersize=7,
            markerfacecolor=palette[name] if decided else "white",
            markeredgecolor=palette[name],
            markeredgewidth=1.5,
            zorder=3,
        )
        texts.append((ys[row], text if interval else f"{text}  no interval"))
    limit = max(abs(edge) for edge in right.get_xlim())
    right.set_xlim(-limit, limit)
    right.set_xlabel(f"difference to {control} (points)", fontsize=TEXT, color=INK)
    for y, text in texts:
        right.annotate(
            text,
            (1.02, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=TEXT - 0.5,
            color=INK,
            family="DejaVu Sans Mono",
        )
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
