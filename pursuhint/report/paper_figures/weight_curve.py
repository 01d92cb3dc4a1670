"""Accuracy against the weight of a loss, or another of its numbers: figure 6 of Re-ReviewKD."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from pursuhint._util.arguments import is_number
from pursuhint._util.fingerprint import flatten_keys
from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import (
    CYCLE,
    DASHES,
    GRAY,
    INK,
    MARKERS,
    PALE,
    TEXT,
    legend_below,
    plain_axes,
)
from pursuhint.report.paper_figures.drawn import DrawnFigure, FigureSettings
from pursuhint.report.text import count, listed
from pursuhint.study.same_setting import setting_of
from pursuhint.training.run_folder.record import RunRecord

_WIDE = 20.0  # largest over smallest number from which on the axis is logarithmic
_MANY = 10  # numbers, beyond which not all are written at the axis
_PLACES = ("data.root", "data.download", "data.workers")  # change no result
_OF_CE = "losses.ce.weight"  # often one minus the weight beside it


@dataclass(frozen=True)
class Curve:
    """Runs that differ in the number, and in their seeds, alone.

    Attributes:
        name: what distinguishes them from the other curves; empty if there are none.
        accuracies: top-1 in percent after the last epoch of every seed, by the number, in ascending order.
    """

    name: str
    accuracies: dict[float, list[float]]

    @property
    def means(self) -> dict[float, float]:
        """Mean over the seeds, by the number."""
        return {number: statistics.fmean(values) for number, values in self.accuracies.items()}

    @property
    def best(self) -> float:
        """The number with the highest mean; the first of several."""
        means = self.means
        return max(means, key=lambda number: means[number])


def draw(folders: Sequence[Path], settings: FigureSettings) -> DrawnFigure:
    """Accuracy over the one number of a loss in which runs differ.

    Runs that differ in something else as well, such as the student, are curves of their own.

    Args:
        folders: finished runs.
        settings: none counts.

    Raises:
        PursuhintError: a run is not finished, or they differ in no number of a loss, or in several.
    """
    runs = [RunRecord.load_finished(folder) for folder in folders]
    key, curves = find_curves(runs)
    loss, _, what = key.removeprefix("losses.").partition(".")
    label = f"{what.replace('.', ' ').replace('_', ' ')} of {loss}"
    data = listed(list(dict.fromkeys(run.recipe.data.name for run in runs)))
    best = "; ".join(
        f"{curve.name + ': ' if curve.name else ''}{curve.means[curve.best]:.2f} % at {curve.best:g}"
        for curve in curves
    )
    seeds = sorted({len(values) for curve in curves for values in curve.accuracies.values()})
    tried = max(len(curve.accuracies) for curve in curves)
    caption = (
        f"Test accuracy on {data} after the last epoch by {label} ({key}). Every dot is a run, lines join "
        f"the means over {_range(seeds)}. Highest mean: {best}. It is the best of {count(tried, 'value')} on "
        "the test images themselves, and so too high for a value that was chosen by it."
    )
    numbers: dict[str, Any] = {
        "number": key,
        "curves": [
            {
                "name": curve.name,
                "best": curve.best,
                "points": [
                    {key: number, "test_top1": values, "mean": curve.means[number]}
                    for number, values in curve.accuracies.items()
                ],
            }
            for curve in curves
        ],
    }
    return DrawnFigure(weight_curves(curves, label), caption, numbers)


def find_curves(runs: Sequence[RunRecord]) -> tuple[str, list[Curve]]:
    """The number in which runs differ, as a recipe key, and their accuracies by it.

    Raises:
        PursuhintError: they differ in no number of a loss, or in several.
    """
    recipes = [flatten_keys(setting_of(run)) for run in runs]
    keys = dict.fromkeys(key for recipe in recipes for key in recipe)
    differing = [key for key in keys if len({str(recipe.get(key)) for recipe in recipes}) > 1]
    numbers = [
        key
        for key in differing
        if key.startswith("losses.") and all(is_number(recipe.get(key)) for recipe in recipes)
    ]
    varied = [key for key in numbers if key != _OF_CE] or numbers
    if len(varied) != 1:
        several = listed(varied) if varied else "none"
        raise PursuhintError(
            f"a weight curve needs runs that differ in one number of a loss; these differ in {several}"
            + (f" (but in {', '.join(differing[:5])})" if differing and not varied else "")
        )
    (key,) = varied
    rest = [other for other in differing if other not in (key, _OF_CE, *_PLACES)]
    found: dict[str, dict[float, list[float]]] = {}
    for run, recipe in zip(runs, recipes):
        name = ", ".join(_named(other, recipe.get(other)) for other in rest)
        found.setdefault(name, {}).setdefault(float(recipe[key]), []).append(float(run.last["test_top1"]))
    return key, [Curve(name, dict(sorted(points.items()))) for name, points in found.items()]


def _range(seeds: Sequence[int]) -> str:
    """``1 seed``, ``2 to 3 seeds``."""
    return f"{seeds[0]} to {count(seeds[-1], 'seed')}" if len(seeds) > 1 else count(seeds[0], "seed")


def _named(key: str, value: Any) -> str:
    return str(value) if key.endswith(".network") else f"{key}={value}"


def weight_curves(curves: Sequence[Curve], label: str) -> Figure:
    """Accuracy of every run over a number, one line a curve through the means.

    Args:
        curves: at least one.
        label: of the axis.
    """
    figure, axes = plain_axes(6.4, 3.6, "")
    for index, curve in enumerate(curves):
        color = CYCLE[index % len(CYCLE)]
        means = curve.means
        for number, values in curve.accuracies.items():
            if len(values) > 1:
                axes.plot([number] * len(values), values, linestyle="none", marker=".", color=INK, zorder=3)
        axes.plot(
            list(means),
            list(means.values()),
            color=color,
            linestyle=DASHES[index % len(DASHES)],
            linewidth=1.6,
            marker=MARKERS[index % len(MARKERS)],
            markersize=6,
            markerfacecolor=color,
            markeredgecolor="white",
            label=curve.name,
        )
        axes.plot(
            curve.best, means[curve.best], marker="o", markersize=12, markerfacecolor="none",
            markeredgecolor=INK, linestyle="none",
        )  # fmt: skip
    _scale(axes, sorted({number for curve in curves for number in curve.accuracies}))
    axes.set_xlabel(label, fontsize=TEXT, color=INK)
    axes.set_ylabel("test accuracy (top-1, %)", fontsize=TEXT, color=INK)
    axes.grid(axis="y", color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.text(
        1.0, 1.02, "circle: highest mean", transform=axes.transAxes, ha="right", fontsize=TEXT - 1, color=GRAY
    )
    if any(curve.name for curve in curves):
        legend_below(figure, axes, inches=6.0)
    return figure


def _scale(axes: Axes, numbers: Sequence[float]) -> None:
    """A logarithmic axis where the numbers span orders of magnitude, linear around zero; ticks at them."""
    positive = [number for number in numbers if number > 0]
    if len(positive) > 1 and positive[-1] / positive[0] >= _WIDE and numbers[0] >= 0:
        if numbers[0] == 0:
            axes.set_xscale("symlog", linthresh=positive[0])
        else:
            axes.set_xscale("log")
    if len(numbers) <= _MANY:
        axes.xaxis.set_major_locator(FixedLocator(list(numbers)))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
