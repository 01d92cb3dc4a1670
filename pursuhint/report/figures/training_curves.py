"""Accuracy and loss by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import NDArray

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import _ORANGE, CYCLE, DASHES, GRAY, INK, TEXT, legend_below, tidy
from pursuhint.report.figures.plain_text import PlainTextFigure

__all__ = ["Series", "series_colors", "training_curves"]

MOST_THIN_LINES = 10  # more cannot be told apart


@dataclass(frozen=True)
class Series:
    """What to draw of one run or of one arm.

    Attributes:
        name: text of the legend.
        runs: for every seed, the records of its epochs (the lines of ``metrics.jsonl``).
    """

    name: str
    runs: tuple[Sequence[Mapping[str, Any]], ...]


def series_colors(names: Sequence[str]) -> dict[str, str]:
    """A colour per arm, constant over the figures of a report; ``alone`` is always grey."""
    others = [name for name in names if name != "alone"]
    colors = {name: CYCLE[index % len(CYCLE)] for index, name in enumerate(others)}
    return {name: colors.get(name, GRAY) for name in names}


def training_curves(
    series: Sequence[Series],
    *,
    split: str = "test",
    colors: Mapping[str, str] | None = None,
    title: str = "",
) -> Figure:
    """Accuracy and loss by epoch.

    One run shows its training curve too (dashed). Of several seeds every one is drawn thinly and their mean
    boldly; with more than `MOST_THIN_LINES` of these a band from the lowest to the highest seed takes the
    place of its thin lines. The accuracy axis leaves out the first quarter of training, where every curve is
    far below what follows; the loss axis is logarithmic and holds everything.

    Args:
        series: the runs or arms.
        split: ``"test"`` or ``"val"``: whose accuracy and loss are shown.
        colors: colour by name of the series; the default is :func:`series_colors`.
        title: a heading; empty for none.

    Raises:
        PursuhintError: there is nothing to draw, or a run has no such accuracy.
    """
    if not series or not all(any(len(run) for run in entry.runs) for entry in series):
        raise PursuhintError("training curves need at least one run with at least one epoch")
    figure = PlainTextFigure(figsize=(8.6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    accuracy, loss = figure.subplots(1, 2)
    alone = len(series) == 1 and len(series[0].runs) == 1
    palette = colors or series_colors([entry.name for entry in series])
    banded = sum(len(entry.runs) for entry in series) > MOST_THIN_LINES
    lowest: list[float] = []
    longest = 0
    for index, entry in enumerate(series):
        color = palette[entry.name]
        dashes = "-" if alone else DASHES[(index // len(CYCLE) + index) % len(DASHES)]
        for axes, kind in ((accuracy, "top1"), (loss, "loss")):
            curves = [_curve(run, f"{split}_{kind}", entry.name) for run in entry.runs if len(run)]
            if alone:
                epochs, values = _curve(entry.runs[0], f"train_{kind}", entry.name)
                if values:
                    axes.plot(
                        epochs,
                        values,
                        color=_ORANGE,
                        linewidth=1.4,
                        linestyle=DASHES[1],
                        label="training",
                        marker="s" if len(values) == 1 else None,
                        markersize=5,
                    )
                    if kind == "top1":
                        lowest.append(values[len(values) // 4])
            if len(curves) > 1 and banded:
                epochs, (low, high) = _extremes(curves)
                axes.fill_between(epochs, low, high, color=color, alpha=0.13, linewidth=0)
            elif len(curves) > 1:
                for epochs, values in curves:
                    axes.plot(epochs, values, color=color, linewidth=0.6, alpha=0.35)
            epochs, mean = _mean_curve(curves)
            axes.plot(
                epochs,
                mean,
                color=color,
                linewidth=1.7,
                linestyle=dashes,
                label=split if alone else entry.name,
                marker="o" if len(mean) == 1 else None,
                markersize=5,
            )
            longest = max(longest, len(mean))
            if kind == "top1":
                lowest += [values[len(values) // 4] for _, values in curves]
    accuracy.set_ylabel("accuracy (top-1, %)", fontsize=TEXT, color=INK)
    loss.set_ylabel("loss" if alone else f"{split} loss (cross-entropy)", fontsize=TEXT, color=INK)
    if longest >= 8:
        accuracy.set_ylim(bottom=max(0.0, 5 * math.floor((min(lowest) - 2) / 5)))
    accuracy.set_ylim(top=min(accuracy.get_ylim()[1], 101.0))
    losses = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in loss.get_lines()])
    if losses.min() > 0 and losses.max() > 3 * losses.min():
        loss.set_yscale("log")
        _readable_log(loss)
    for axes in (accuracy, loss):
        tidy(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch", fontsize=TEXT, color=INK)
    legend_below(figure, accuracy, inches=8.2)
    if title:
        figure.suptitle(title, fontsize=TEXT + 2, color=INK)
    return figure


def _curve(run: Sequence[Mapping[str, Any]], key: str, name: str) -> tuple[list[float], list[float]]:
    points = [(float(line["epoch"]), float(line[key])) for line in run if line.get(key) is not None]
    if not points and not key.startswith("train_"):
        raise PursuhintError(f"the metrics of {name} have no {key}")
    return [epoch for epoch, _ in points], [value for _, value in points]


def _mean_curve(
    curves: Sequence[tuple[list[float], list[float]]],
) -> tuple[list[float], NDArray[np.float64]]:
    """Mean over runs of the epochs that all of them have."""
    shortest = min(len(values) for _, values in curves)
    epochs = curves[0][0][:shortest]
    return epochs, np.mean([values[:shortest] for _, values in curves], axis=0)


def _extremes(
    curves: Sequence[tuple[list[float], list[float]]],
) -> tuple[list[float], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Lowest and highest value over runs of the epochs that all of them have."""
    shortest = min(len(values) for _, values in curves)
    values = np.asarray([values[:shortest] for _, values in curves], dtype=float)
    return curves[0][0][:shortest], (values.min(axis=0), values.max(axis=0))


def _readable_log(axes: Axes) -> None:
    """Plain numbers at 1, 2 and 5 times powers of ten on a logarithmic axis."""
    low, high = axes.get_ylim()
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    wide = math.log10(high / low) > 2.5
    marks = [factor * 10.0**e for e in exponents for factor in ((1,) if wide else (1, 2, 5))]
    axes.yaxis.set_major_locator(FixedLocator([mark for mark in marks if low <= mark <= high]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
