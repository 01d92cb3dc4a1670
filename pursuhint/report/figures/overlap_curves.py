"""Accuracy against the overlap of classes, and weights of images of known and of other classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import CYCLE, DASHES, GRAY, INK, MARKERS, PALE, TEXT, plain_axes

__all__ = ["overlap_curves", "weight_histogram"]


def overlap_curves(
    methods: Mapping[str, Mapping[float, Sequence[float]]],
    *,
    measure: str = "test accuracy (top-1, %)",
    title: str = "",
) -> Figure:
    """One line a method over the overlaps, with bars of one standard deviation.

    Args:
        methods: results of every seed by overlap in percent, by method; ``student alone`` is grey.
        measure: what the results are.
        title: a heading; empty for none.

    Raises:
        PursuhintError: there is no method, or no overlap.
    """
    if not methods or not all(methods.values()):
        raise PursuhintError("a picture of overlaps needs a method and an overlap or more")
    figure, axes = plain_axes(8.4, max(3.4, 0.24 * len(methods) + 1.2), title)
    for place, (name, results) in enumerate(methods.items()):
        overlaps = sorted(results)
        spread = [float(np.std(results[x], ddof=1)) if len(results[x]) > 1 else 0.0 for x in overlaps]
        axes.errorbar(
            [x + 0.5 * (place - (len(methods) - 1) / 2) for x in overlaps],  # bars do not hide each other
            [float(np.mean(results[x])) for x in overlaps],
            yerr=spread,
            color=GRAY if name == "student alone" else CYCLE[place % len(CYCLE)],
            linestyle=DASHES[place // len(CYCLE) % len(DASHES)],
            marker=MARKERS[place % len(MARKERS)],
            markersize=5,
            markeredgecolor="white",
            linewidth=1.5,
            elinewidth=0.9,
            label=name,
        )
    ticks = sorted({x for results in methods.values() for x in results})
    axes.set_xticks(ticks, [f"{tick:.3g}" for tick in ticks])
    axes.set_xlabel("classes of the student that the teacher knows (%)", fontsize=TEXT, color=INK)
    axes.set_ylabel(measure, fontsize=TEXT, color=INK)
    axes.grid(color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=TEXT - 1, frameon=False)
    return figure


def weight_histogram(seen: Sequence[int], unseen: Sequence[int], *, title: str = "") -> Figure:
    """Shares of the images of known and of other classes by their weight.

    Args:
        seen: images of classes that the teacher knows, in equal intervals of [0, 1].
        unseen: the same of the others; as many intervals.
        title: a heading; empty for none.

    Raises:
        PursuhintError: the numbers of intervals differ, or there is no image.
    """
    if len(seen) != len(unseen) or not sum(seen) + sum(unseen):
        raise PursuhintError("a histogram needs images, and both kinds in the same intervals")
    figure, axes = plain_axes(8.4, 3.0, title)
    edges = np.linspace(0, 1, len(seen) + 1)
    kinds = (("known to the teacher", seen, CYCLE[0], ""), ("unknown", unseen, CYCLE[1], "//"))
    for name, counts, color, hatch in kinds:
        if sum(counts):
            shares = 100 * np.array(counts) / sum(counts)
            axes.stairs(
                shares,
                edges,
                fill=True,
                alpha=0.45,
                facecolor=color,
                edgecolor=color,
                hatch=hatch,
                label=name,
            )
    axes.set_xlabel("weight of an image", fontsize=TEXT, color=INK)
    axes.set_ylabel("images of the kind (%)", fontsize=TEXT, color=INK)
    axes.set_xlim(0, 1)
    axes.legend(fontsize=TEXT - 1, frameon=False, loc="upper left")
    return figure
