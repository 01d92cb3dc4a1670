"""Accuracy with a single hint at every layer, and where other arms have their hints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pursuhint.errors import PursuhintError
from pursuhint.report.cells import arms_for, check_same_teacher, has_landscape, landscape_of, load_cells
from pursuhint.report.figures.landscape import position_landscapes
from pursuhint.report.paper_figures.drawn import DrawnFigure, FigureSettings


def draw(folders: Sequence[Path], settings: FigureSettings) -> DrawnFigure:
    """One curve for every set of losses and length that has a hint at every layer in turn.

    Args:
        folders: comparisons with the arm ``sweep``; and others of the same teacher without it, whose arms are
            marked beside the curve with their losses.
        settings: none counts.

    Raises:
        PursuhintError: a folder holds no finished comparison, none has single layers, or the teachers are
            different ones.
    """
    cells = load_cells(folders)
    curves = [cell for cell in cells if has_landscape(cell)]
    if not curves:
        raise PursuhintError(
            "none of these comparisons has a hint at every layer in turn; pursuhint compare --arm sweep "
            "trains them"
        )
    check_same_teacher(cells)
    others = [cell for cell in cells if not has_landscape(cell)]
    several = len({cell.losses_and_length for cell in curves}) < len(curves)
    landscapes = {
        cell.title if several else cell.losses_and_length: landscape_of(cell, arms_for(cell, others))
        for cell in curves
    }
    caption = (
        "Test accuracy of students with a single hint at one layer of the teacher, mean and one standard "
        "deviation over the seeds. A single hint says what its layer teaches alone, not what it adds to "
        "others."
    )
    if any(one.baseline is not None for one in landscapes.values()):
        caption += " The dashed line is the mean of the students with the teacher but no hints."
    if any(one.arms for one in landscapes.values()):
        caption += " Below, where other arms have their hints"
        caption += "; marks in color where they differ between the curves." if len(curves) > 1 else "."
    numbers = [
        {
            "title": title,
            "layers": {str(place): list(values) for place, values in one.layers.items()},
            "arms": {arm: list(places) for arm, places in one.arms.items()},
            "no_hints": one.baseline,
        }
        for title, one in landscapes.items()
    ]
    return DrawnFigure(position_landscapes(landscapes), caption, {"curves": numbers})
