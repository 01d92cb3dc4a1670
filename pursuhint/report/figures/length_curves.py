"""Accuracy of every arm against the length of training."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import CYCLE, DASHES, GRAY, INK, MARKERS, PALE, TEXT, plain_axes

__all__ = ["length_curves"]


def length_curves(
    arms: Mapping[str, Mapping[int, float]],
    *,
    measure: str = "test accuracy (top-1, %)",
    title: str = "",
) -> Figure:
    """One line an arm over the lengths of training, on a logarithmic axis.

    Args:
        arms: mean result by length in epochs, by arm.
        measure: what the results are.
        title: a heading; empty for none.

    Raises:
        PursuhintError: an arm has fewer than two lengths, or the arms have different ones.
    """
    lengths = sorted(next(iter(arms.values()), {}))
    if len(lengths) < 2 or any(sorted(results) != lengths for results in arms.values()):
        raise PursuhintError("accuracy against length needs the same two or more lengths for every arm")
    figure, axes = plain_axes(8.4, max(3.4, 0.24 * len(arms) + 1.2), title)
    for place, (arm, results) in enumerate(arms.items()):
        axes.plot(
            lengths,
            [results[length] for length in lengths],
            color=GRAY if arm == "student alone" else CYCLE[place % len(CYCLE)],
            linestyle=DASHES[place // len(CYCLE) % len(DASHES)],
            marker=MARKERS[place % len(MARKERS)],
            markersize=5,
            markeredgecolor="white",
            linewidth=1.6,
            label=arm,
        )
    axes.set_xscale("log")
    axes.minorticks_off()
    axes.set_xticks(lengths, [str(length) for length in lengths])
    axes.set_xlabel("epochs", fontsize=TEXT, color=INK)
    axes.set_ylabel(measure, fontsize=TEXT, color=INK)
    axes.grid(color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=TEXT - 1, frameon=False)
    return figure
