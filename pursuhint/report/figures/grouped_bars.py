"""Accuracy of every arm as bars, grouped by sets of losses: figure 3 of PURSUhInT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import CYCLE, GRAY, INK, PALE, TEXT, plain_axes

__all__ = ["grouped_bars"]

_HATCHES = ("", "///", "...", "\\\\\\")


def grouped_bars(
    groups: Mapping[str, Mapping[str, Sequence[float]]],
    *,
    measure: str = "test accuracy (top-1, %)",
    title: str = "",
) -> Figure:
    """Mean and standard deviation of every arm, side by side in each group.

    The axis begins below the lowest bar, at zero if that is near: what is compared are the tops. Arms beyond
    the number of colours repeat them with another hatching.

    Args:
        groups: results of every seed by arm, by group (a set of losses, a length).
        measure: what the results are.
        title: a heading; empty for none.

    Raises:
        PursuhintError: there are no results, or a group lacks an arm.
    """
    arms = list(next(iter(groups.values()), {}))
    if not arms or any(list(group) != arms or not all(group.values()) for group in groups.values()):
        raise PursuhintError("grouped bars need the same arms with at least one result in every group")
    per_row = 4
    legend_rows = -(-len(arms) // per_row)
    width = max(7.0, 0.17 * len(arms) * len(groups) + 1.5)
    figure, axes = plain_axes(width, 3.2 + 0.22 * legend_rows, title)
    means = np.array([[np.mean(group[arm]) for arm in arms] for group in groups.values()])
    spread = np.array(
        [[np.std(v, ddof=1) if len(v) > 1 else 0.0 for v in g.values()] for g in groups.values()]
    )
    step = 0.86 / len(arms)
    for place, arm in enumerate(arms):
        at = np.arange(len(groups)) - 0.43 + step * (place + 0.5)
        color = GRAY if place == 0 and arm == "student alone" else CYCLE[place % len(CYCLE)]
        axes.bar(
            at,
            means[:, place],
            step * 0.9,
            yerr=spread[:, place] if spread.any() else None,
            color=color,
            edgecolor="white",
            linewidth=0.4,
            hatch=_HATCHES[place // len(CYCLE) % len(_HATCHES)],
            error_kw={"ecolor": INK, "elinewidth": 0.9},
            label=arm,
        )
    low, high = float((means - spread).min()), float((means + spread).max())
    margin = max((high - low) * 0.25, 0.5)
    axes.set_ylim(max(0.0, low - margin), min(100.0, high + margin / 2) if high <= 100 else high + margin)
    axes.set_xticks(range(len(groups)), list(groups))
    axes.set_ylabel(measure, fontsize=TEXT, color=INK)
    axes.grid(axis="y", color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.legend(
        loc="lower center", bbox_to_anchor=(0.5, 1.02), ncols=per_row, fontsize=TEXT - 1, frameon=False
    )
    return figure
