"""Conventional beside proposed positions for every set of losses and length: table 4 of PURSUhInT."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pursuhint.errors import PursuhintError
from pursuhint.report.cells import load_cells, proposed_arms
from pursuhint.report.figures.pairs_by_scheme import pairs_by_scheme
from pursuhint.report.paper_figures.drawn import DrawnFigure, FigureSettings
from pursuhint.study.arm_result import title_of

_BASELINE = "conventional"


def draw(folders: Sequence[Path], settings: FigureSettings) -> DrawnFigure:
    """One row for every comparison and proposed arm.

    Args:
        folders: finished comparisons with the arm ``conventional`` and at least one that chooses.
        settings: none counts.

    Raises:
        PursuhintError: a folder holds no finished comparison, or one without these arms.
    """
    rows = []
    for cell in load_cells(folders):
        proposed = proposed_arms(cell.arms)
        if _BASELINE not in cell.arms or not proposed:
            raise PursuhintError(
                f"{cell.title} does not have both the arm {_BASELINE} and one that chooses by similarity "
                f"(kmeans, segments or METRIC:ALGORITHM:POSITION); its arms are {', '.join(cell.arms)}"
            )
        rows += [(cell, arm) for arm in proposed]
    names = list(dict.fromkeys(title_of(arm) for _, arm in rows))
    schemes = {
        cell.title if len(names) == 1 else f"{cell.title}: {title_of(arm)}": (
            cell.values(_BASELINE), cell.values(arm),
        )
        for cell, arm in rows
    }  # fmt: skip
    figure = pairs_by_scheme(
        schemes, names=(title_of(_BASELINE), names[0] if len(names) == 1 else "chosen positions")
    )
    caption = (
        "Test accuracy after the last epoch with hints at the conventional and at the chosen positions, by "
        "losses and length. Large marks are means, small ones single seeds; at the right is the difference "
        "of the means in points."
    )
    numbers = [
        {
            "title": cell.title,
            "arm": arm,
            _BASELINE: list(cell.values(_BASELINE)),
            "proposed": list(cell.values(arm)),
        }
        for cell, arm in rows
    ]
    return DrawnFigure(figure, caption, {"rows": numbers})
