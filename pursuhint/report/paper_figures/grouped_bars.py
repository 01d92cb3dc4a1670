"""Accuracy of every arm as bars, grouped by losses and length: figure 3 of PURSUhInT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pursuhint.report.cells import arms_of_all, load_cells
from pursuhint.report.figures.grouped_bars import grouped_bars
from pursuhint.report.paper_figures.drawn import DrawnFigure, FigureSettings
from pursuhint.report.text import count, listed
from pursuhint.study.arm_result import title_of


def draw(folders: Sequence[Path], settings: FigureSettings) -> DrawnFigure:
    """One group of bars for every set of losses and length.

    Args:
        folders: finished comparisons.
        settings: none counts.

    Raises:
        PursuhintError: a folder holds no finished comparison, or they share no arm.
    """
    cells = load_cells(folders)
    arms, left_out = arms_of_all(cells)
    figure = grouped_bars({cell.title: {title_of(arm): cell.values(arm) for arm in arms} for cell in cells})
    seeds = sorted({len(cell.comparison.seeds) for cell in cells})
    number = count(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {count(seeds[-1], 'seed')}"
    caption = (
        f"Mean test accuracy of every arm after the last epoch over {number}, by losses and length; bars of "
        "error are one standard deviation."
    )
    if figure.axes[0].get_ylim()[0] > 0:
        caption += " The axis does not begin at zero."
    if left_out:
        caption += (
            f" Not in all of the comparisons, and so left out: {listed([title_of(arm) for arm in left_out])}."
        )
    groups = [{"title": cell.title, "arms": {arm: list(cell.values(arm)) for arm in arms}} for cell in cells]
    return DrawnFigure(figure, caption, {"groups": groups})
