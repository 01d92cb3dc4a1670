"""Accuracy of every arm against the length of training, one panel a set of losses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pursuhint.errors import PursuhintError
from pursuhint.report.cells import Cell, arms_of_all, load_cells
from pursuhint.report.figures.length_curves import length_panels
from pursuhint.report.paper_figures.drawn import DrawnFigure, FigureSettings
from pursuhint.report.text import listed
from pursuhint.study.arm_result import title_of


def draw(folders: Sequence[Path], settings: FigureSettings) -> DrawnFigure:
    """Means over the seeds by the number of epochs.

    Args:
        folders: comparisons with one teacher, together with two lengths or more of the same losses.
        settings: none counts.

    Raises:
        PursuhintError: a folder holds no finished comparison, they share no arm, a length of a set is there
            twice, or there is only one.
    """
    cells = load_cells(folders)
    arms, left_out = arms_of_all(cells)
    by_set: dict[str, dict[int, Cell]] = {}
    for cell in cells:
        lengths = by_set.setdefault(cell.loss_set, {})
        if cell.epochs in lengths:
            raise PursuhintError(
                f"{cell.title} and {lengths[cell.epochs].title} have the same losses and length; name "
                "comparisons of different lengths"
            )
        lengths[cell.epochs] = cell
    short = [name for name, lengths in by_set.items() if len(lengths) < 2]
    if short:
        raise PursuhintError(
            f"accuracy against length needs two lengths or more of each set of losses; {listed(short)} has "
            "one: pursuhint compare --epochs 8,20,60"
        )
    panels = {
        name: {
            title_of(arm): {epochs: cell.comparison.arm(arm).last.mean for epochs, cell in lengths.items()}
            for arm in arms
        }
        for name, lengths in by_set.items()
    }
    caption = (
        "Mean test accuracy of every arm after the last epoch, by the length of training. Every length is a "
        "training of its own with its own schedule, not an epoch of a longer one."
    )
    if left_out:
        caption += f" Not of all lengths, and so left out: {listed([title_of(arm) for arm in left_out])}."
    numbers = [
        {"losses": name, "epochs": epochs, "arms": {arm: list(cell.values(arm)) for arm in arms}}
        for name, lengths in by_set.items()
        for epochs, cell in lengths.items()
    ]
    return DrawnFigure(length_panels(panels), caption, {"lengths": numbers})
