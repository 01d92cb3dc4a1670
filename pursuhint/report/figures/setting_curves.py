"""A result against a hyperparameter, and the course of two stages, one line an overlap of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import (
    CYCLE,
    DASHES,
    INK,
    MARKERS,
    PALE,
    TEXT,
    legend_below,
    plain_axes,
    tidy,
)
from pursuhint.report.figures.plain_text import PlainTextFigure

__all__: list[str] = []

Runs = Sequence[Mapping[int, float]]
"""For every seed, a value by epoch."""


def setting_curves(
    lines: Mapping[str, Mapping[str, Sequence[float]]], *, setting: str, measure: str, title: str = ""
) -> Figure:
    """Means over the seeds by value of a setting, with bars of one standard deviation.

    The values stand at equal distances, in their order.

    Args:
        lines: by name of a line, results of every seed by value of the setting, all with the same values.
        setting: what it is.
        measure: what the results are.
        title: a heading; empty for none.

    Raises:
        PursuhintError: there is no line, or fewer than two values.
    """
    values = list(next(iter(lines.values()), ()))
    if len(values) < 2:
        raise PursuhintError("a curve over a setting needs a line and two values or more")
    figure, axes = plain_axes(5.6, 3.4, title)
    for place, (name, results) in enumerate(lines.items()):
        spread = [float(np.std(results[one], ddof=1)) if len(results[one]) > 1 else 0.0 for one in values]
        axes.errorbar(
            [x + 0.04 * (place - (len(lines) - 1) / 2) for x in range(len(values))],
            [float(np.mean(results[one])) for one in values],
            yerr=spread,
            color=CYCLE[place % len(CYCLE)],
            linestyle=DASHES[place % len(DASHES)],
            marker=MARKERS[place % len(MARKERS)],
            markersize=5,
            markeredgecolor="white",
            linewidth=1.5,
            elinewidth=0.9,
            label=name,
        )
    axes.set_xticks(range(len(values)), values)
    axes.set_xlabel(setting, fontsize=TEXT, color=INK)
    axes.set_ylabel(measure, fontsize=TEXT, color=INK)
    axes.grid(color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    legend_below(figure, axes, inches=5.2)
    return figure


def stage_curves(
    first: Mapping[str, Runs], second: Mapping[str, Runs], *, measures: tuple[str, str], title: str = ""
) -> Figure:
    """The course of two stages side by side: a thin line a seed, and their mean.

    Args:
        first: by name of a line, the runs of the first stage.
        second: the runs of the second stage, of the same lines.
        measures: what is measured in the first and in the second stage.
        title: a heading; empty for none.

    Raises:
        PursuhintError: there is no line, or one without a measurement.
    """
    if not first or not all(len(run) for runs in (*first.values(), *second.values()) for run in runs):
        raise PursuhintError("curves of two stages need a line, and a measurement in each of its runs")
    figure = PlainTextFigure(figsize=(8.6, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    stages = ("first stage", "second stage")
    for axes, lines, measure, stage in zip(panels, (first, second), measures, stages, strict=True):
        for place, (name, runs) in enumerate(lines.items()):
            _line(axes, name, runs, place)
        tidy(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel(f"epoch of the {stage}", fontsize=TEXT, color=INK)
        axes.set_ylabel(measure, fontsize=TEXT, color=INK)
        axes.margins(y=0.12)
    legend_below(figure, panels[0], inches=8.2)
    if title:
        figure.suptitle(title, fontsize=TEXT + 2, color=INK)
    return figure


def _line(axes: Axes, name: str, runs: Runs, place: int) -> None:
    color = CYCLE[place % len(CYCLE)]
    if len(runs) > 1:
        for run in runs:
            axes.plot(list(run), list(run.values()), color=color, linewidth=0.6, alpha=0.35)
    epochs = [epoch for epoch in runs[0] if all(epoch in run for run in runs)]
    axes.plot(
        epochs,
        [float(np.mean([run[epoch] for run in runs])) for epoch in epochs],
        color=color,
        linestyle=DASHES[place % len(DASHES)],
        marker=MARKERS[place % len(MARKERS)] if len(epochs) < 12 else None,
        markersize=5,
        markeredgecolor="white",
        linewidth=1.7,
        label=name,
    )
