"""Accuracy with a single hint at every layer, and where each arm has its own hints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import CYCLE, GRAY, INK, MARKERS, PALE, TEXT, plain_axes, tidy

__all__ = ["position_landscape"]


def position_landscape(
    layers: Mapping[int, Sequence[float]],
    arms: Mapping[str, Sequence[int]],
    *,
    baseline: float | None = None,
    measure: str = "test accuracy (top-1, %)",
    title: str = "",
) -> Figure:
    """Mean accuracy by the position of a single hint with a band of one standard deviation.

    Below the curve is one row an arm with marks at its positions.

    Args:
        layers: results of every seed by position.
        arms: positions by arm.
        baseline: accuracy without hints, drawn as a line; None for none.
        measure: what the results are.
        title: a heading; empty for none.

    Raises:
        PursuhintError: there are fewer than two positions.
    """
    if len(layers) < 2:
        raise PursuhintError(f"a landscape needs a hint at two or more layers, got {len(layers)}")
    places = sorted(layers)
    means = np.array([np.mean(layers[place]) for place in places])
    spread = np.array([np.std(layers[p], ddof=1) if len(layers[p]) > 1 else 0.0 for p in places])
    rows = 0.21 * max(len(arms), 1)
    figure, axes = plain_axes(8.4, 3.1 + rows, title)
    axes.remove()
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, rows + 0.1))
    for part in (upper, lower):
        tidy(part)
    upper.fill_between(places, means - spread, means + spread, color=CYCLE[0], alpha=0.18, linewidth=0)
    upper.plot(places, means, color=CYCLE[0], marker="o", markersize=4.5, linewidth=1.6)
    if baseline is not None:
        upper.axhline(baseline, color=GRAY, linewidth=1.0, linestyle="--")
        upper.annotate(
            "no hints",
            (1.0, baseline),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            fontsize=TEXT - 1,
            color=INK,
        )
    upper.set_ylabel(measure, fontsize=TEXT, color=INK)
    upper.grid(color=PALE, linewidth=0.7)
    for row, (_, positions) in enumerate(arms.items()):
        lower.axhline(row, color=PALE, linewidth=0.7, zorder=0)
        lower.plot(
            sorted(set(positions)),
            [row] * len(set(positions)),
            MARKERS[row % len(MARKERS)],
            color=CYCLE[row % len(CYCLE)],
            markersize=6,
            markeredgecolor="white",
        )
    lower.set_yticks(range(len(arms)), list(arms))
    lower.set_ylim(len(arms) - 0.5, -0.5)
    lower.tick_params(axis="y", length=0)
    step = max(1, len(places) // 18)
    lower.set_xticks(places[::step])
    lower.set_xlabel("layer position of the teacher, in depth order", fontsize=TEXT, color=INK)
    return figure
