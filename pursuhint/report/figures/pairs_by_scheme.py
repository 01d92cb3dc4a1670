"""Baseline beside proposed positions for every scheme: table 4 of PURSUhInT as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import CYCLE, GRAY, INK, PALE, TEXT, plain_axes

__all__ = ["pairs_by_scheme"]


def pairs_by_scheme(
    schemes: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    *,
    names: tuple[str, str],
    measure: str = "test accuracy (top-1, %)",
    title: str = "",
) -> Figure:
    """Two means a row, joined by a line, with their difference; small marks are the seeds.

    Args:
        schemes: results of every seed with the baseline's and with the proposed positions, by scheme (losses
            and length); drawn from top to bottom.
        names: of the baseline and of the proposed positions.
        measure: what the results are.
        title: a heading; empty for none.

    Raises:
        PursuhintError: there is no scheme, or one has different numbers of seeds.
    """
    if not schemes or any(not len(a) == len(b) > 0 for a, b in schemes.values()):
        raise PursuhintError("baseline and proposed need results of the same seeds in every scheme")
    figure, axes = plain_axes(7.6, 1.3 + 0.42 * len(schemes), title)
    for row, (base, proposed) in enumerate(schemes.values()):
        ends = float(np.mean(base)), float(np.mean(proposed))
        axes.plot(ends, [row, row], color=GRAY, linewidth=1.5, zorder=1)
        looks = (("o", CYCLE[1], -0.16), ("D", CYCLE[0], 0.16))
        for values, mean, (marker, color, shift) in zip((base, proposed), ends, looks):
            axes.plot(values, [row + shift] * len(values), marker, color=color, markersize=3, alpha=0.6)
            axes.plot(
                [mean],
                [row],
                marker,
                color=color,
                markersize=8,
                markeredgecolor="white",
                zorder=3,
                label=names[looks.index((marker, color, shift))] if row == 0 else None,
            )
        axes.annotate(
            f"{ends[1] - ends[0]:+.2f}",
            (1.02, row),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=TEXT,
            color=INK,
        )
    axes.set_yticks(range(len(schemes)), list(schemes))
    axes.set_ylim(len(schemes) - 0.5, -0.5)
    axes.grid(axis="x", color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"{measure}; at the right the difference in points", fontsize=TEXT, color=INK)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=TEXT - 1, frameon=False)
    return figure
