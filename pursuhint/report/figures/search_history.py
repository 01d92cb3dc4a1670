"""The trials of a search: their results in order, what each value has to do with them, and what matters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import CYCLE, GRAY, INK, PALE, TEXT, plain_axes, tidy
from pursuhint.report.figures.plain_text import PlainTextFigure

_BLUE, _ORANGE = CYCLE[0], CYCLE[1]
_MEASURE = "validation accuracy (top-1, %)"


@dataclass(frozen=True)
class Slice:
    """One key of a search and its value in every complete trial.

    Attributes:
        key: that varied.
        values: one a trial: numbers, or texts for choices.
        log: whether numbers are on a logarithmic scale.
    """

    key: str
    values: tuple[float | str, ...]
    log: bool = False


def search_history(
    results: Mapping[int, float], ended: Mapping[int, float], *, measure: str = _MEASURE
) -> Figure:
    """Result of every trial in their order, the best so far as a line, and trials that ended early hollow.

    Args:
        results: of complete trials by number; not empty.
        ended: last accuracy of trials that ended early, by number.
        measure: what the results are.

    Raises:
        PursuhintError: there are no complete trials.
    """
    if not results:
        raise PursuhintError("the history of a search needs a complete trial")
    figure, axes = plain_axes(7.2, 3.2, "")
    numbers = sorted(results)
    best = list(accumulate((results[number] for number in numbers), max))
    end = max([*results, *ended]) + 0.5
    axes.step([*numbers, end], [*best, best[-1]], where="post", color=INK, linewidth=1.2, label="best so far")
    axes.plot(
        numbers, [results[n] for n in numbers], "o", color=_BLUE, markersize=5, label="complete", zorder=3
    )
    if ended:
        axes.plot(
            list(ended),
            list(ended.values()),
            "v",
            color=_ORANGE,
            markerfacecolor="white",
            markersize=5.5,
            label="ended early",
        )
    axes.set_xlabel("trial", fontsize=TEXT, color=INK)
    axes.set_ylabel(measure, fontsize=TEXT, color=INK)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=TEXT - 1, frameon=False)
    return figure


def search_slices(
    slices: Sequence[Slice], results: Sequence[float], best: int, *, measure: str = _MEASURE
) -> Figure:
    """Result of every complete trial against the value of each key; the best trial is marked.

    Args:
        slices: one a key.
        results: of the trials, in the order of the slices' values.
        best: index of the best of them.
        measure: what the results are.

    Raises:
        PursuhintError: there is no key, or a slice has another number of values.
    """
    if not slices or any(len(one.values) != len(results) for one in slices):
        raise PursuhintError("slices of a search need a key, and as many values as there are results")
    columns = min(3, len(slices))
    rows = math.ceil(len(slices) / columns)
    figure = PlainTextFigure(figsize=(2.7 * columns + 0.6, 2.5 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for place, axes in enumerate(panels.flat):
        if place >= len(slices):
            axes.set_axis_off()
            continue
        tidy(axes)
        _draw_slice(axes, slices[place], results, best)
        if place % columns == 0:
            axes.set_ylabel(measure if rows == 1 else "top-1, %", fontsize=TEXT - 1, color=INK)
    return figure


def _draw_slice(axes: Axes, one: Slice, results: Sequence[float], best: int) -> None:
    texts = sorted({value for value in one.values if isinstance(value, str)})
    at = [texts.index(value) if isinstance(value, str) else value for value in one.values]
    axes.plot(at, results, "o", color=_BLUE, markersize=4.5, alpha=0.8)
    axes.plot(at[best], results[best], "D", color=_ORANGE, markeredgecolor=INK, markersize=7)
    if texts:
        axes.set_xticks(range(len(texts)), texts)
        axes.set_xlim(-0.5, len(texts) - 0.5)
    elif one.log:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(one.key, fontsize=TEXT, color=INK)
    axes.grid(color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)


def importance_bars(importances: Mapping[str, float]) -> Figure:
    """Share of the variance of the results that each key explains.

    Args:
        importances: share by key, in 0..1; not empty.

    Raises:
        PursuhintError: it is empty.
    """
    if not importances:
        raise PursuhintError("there are no importances to draw")
    figure, axes = plain_axes(6.4, 0.36 * len(importances) + 0.9, "")
    names = sorted(importances, key=lambda name: importances[name])
    bars = axes.barh(range(len(names)), [100 * importances[name] for name in names], 0.62, color=_BLUE)
    axes.bar_label(bars, fmt="%.0f %%", padding=3, fontsize=TEXT, color=INK)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlim(0, 112)
    axes.set_xticks(range(0, 101, 25))
    axes.set_xlabel("share of the variance (%)", fontsize=TEXT, color=INK)
    axes.spines["bottom"].set_color(GRAY)
    return figure
