"""Accuracy of every arm against the length of training."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import CYCLE, DASHES, GRAY, INK, MARKERS, PALE, TEXT, plain_axes, tidy

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
    return length_panels({"": arms}, measure=measure, title=title)


def length_panels(
    panels: Mapping[str, Mapping[str, Mapping[int, float]]],
    *,
    measure: str = "test accuracy (top-1, %)",
    title: str = "",
) -> Figure:
    """Several sets of curves side by side, with one axis of accuracy.

    Args:
        panels: arms as `length_curves` takes them, by the heading of their panel; at least one panel, all
            with the same arms.
        measure: what the results are.
        title: a heading; empty for none.

    Raises:
        PursuhintError: as `length_curves`, in a panel.
    """
    for arms in panels.values():
        lengths = sorted(next(iter(arms.values()), {}))
        if len(lengths) < 2 or any(sorted(results) != lengths for results in arms.values()):
            raise PursuhintError("accuracy against length needs the same two or more lengths for every arm")
    most = max(map(len, panels.values()))
    figure, axes = plain_axes(4.2 + 4.2 * len(panels), max(3.4, 0.24 * most + 1.2), title)
    every = [axes]
    if len(panels) > 1:
        axes.remove()
        every = list(figure.subplots(1, len(panels), sharey=True))
    for place, (heading, arms) in zip(every, panels.items()):
        tidy(place)
        _draw_lines(place, arms)
        if len(panels) > 1:
            place.set_title(heading, fontsize=TEXT, color=INK)
    every[0].set_ylabel(measure, fontsize=TEXT, color=INK)
    every[-1].legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=TEXT - 1, frameon=False)
    return figure


def _draw_lines(axes: Axes, arms: Mapping[str, Mapping[int, float]]) -> None:
    lengths = sorted(next(iter(arms.values())))
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
    axes.grid(color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
