"""The finished cells of a folder, and the published figures that they stand for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pursuhint._util.atomic_files import read_json
from pursuhint.errors import PursuhintError
from pursuhint.published.grids import Grid, figures_of, paper_grids
from pursuhint.published.names import own_network
from pursuhint.published.results import PublishedResult
from pursuhint.study.grids.cells import GridCell, GridOptions
from pursuhint.study.grids.folder import FILE, is_finished

ALONE = "alone"


@dataclass(frozen=True)
class GridResult:
    """The runs of one method on one pair of networks, over seeds.

    Attributes:
        row: the method, as the table calls it; ``alone`` for networks without a teacher.
        runs: folders of the finished runs, in order of the seeds.
        figures: that are published for the same thing.
    """

    row: str
    runs: tuple[Path, ...]
    figures: tuple[PublishedResult, ...]


def describe(grid: Grid, cells: Sequence[GridCell], options: GridOptions) -> dict[str, Any]:
    """What ``grid.json`` says of a grid: row and networks of its cells by folder, without the seeds."""
    places = {cell.name.rpartition("/")[0]: [cell.row, *_networks(cell)] for cell in cells}
    return {"title": grid.title, "changes": options.lines(), "cells": places}


def _networks(cell: GridCell) -> tuple[str, str]:
    teacher = cell.recipe.teacher
    return "" if teacher is None else teacher.network, cell.recipe.student.network


def grid_results(folder: Path) -> list[GridResult]:
    """The finished runs of a folder of cells, method by method, in the order of its grids.

    Raises:
        PursuhintError: ``grid.json`` is damaged.
    """
    values = read_json(folder / FILE, "description of the grid")
    found: dict[str, tuple[str, list[PublishedResult]]] = {}
    try:
        for name, entry in values["grids"].items():
            for place, (row, teacher, student) in entry["cells"].items():
                known = found.setdefault(place, (str(row), []))
                known[1].extend(_figures(name, str(row), (str(teacher), str(student))))
    except (AttributeError, KeyError, TypeError, ValueError):
        raise _damaged(folder) from None
    results = []
    for place, (row, figures) in found.items():
        runs = sorted(filter(is_finished, (folder / place).glob("seed-*")), key=_seed)
        if runs:
            results.append(GridResult(row, tuple(runs), tuple(dict.fromkeys(figures))))
    return results


def changed_settings(folder: Path) -> tuple[str, ...]:
    """What the cells of a folder have that the papers have not, as it was said when they were trained."""
    values = read_json(folder / FILE, "description of the grid")
    try:
        lines = [line for entry in values["grids"].values() for line in entry["changes"]]
    except (AttributeError, KeyError, TypeError):
        raise _damaged(folder) from None
    return tuple(dict.fromkeys(map(str, lines)))


def unfinished_cells(folder: Path) -> int:
    """How many cells of a folder were begun and are not finished."""
    runs = (file.parent for file in folder.glob("*/*/seed-*/recipe.yaml"))
    return sum(not is_finished(run) for run in runs)


def _damaged(folder: Path) -> PursuhintError:
    return PursuhintError(
        f"the description of the grid {folder / FILE} is damaged; 'table run' writes it anew once it is gone"
    )


def _seed(run: Path) -> tuple[int, str]:
    number = run.name.removeprefix("seed-")
    return (int(number) if number.isdigit() else -1), number


def _figures(name: str, row: str, pair: tuple[str, str]) -> Iterator[PublishedResult]:
    grids: Mapping[str, Grid] = paper_grids()
    for one in figures_of(name) if name in grids else ():
        networks = own_network(one.teacher, one.dataset), own_network(one.student, one.dataset)
        if row == ALONE:
            role = {"teacher": 0, "vanilla": 1}.get(one.method)
            if role is not None and networks[role] == pair[1]:
                yield one
        elif networks == pair and row in (one.method, f"{one.method} | {one.note}"):
            yield one
