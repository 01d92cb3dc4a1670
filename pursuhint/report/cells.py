"""The cells of comparisons, each a set of losses and a length, and what pictures of them show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pursuhint._util.atomic_files import read_json
from pursuhint.errors import PursuhintError
from pursuhint.report.figures.landscape import Landscape
from pursuhint.report.paper_figures.folders import short_names
from pursuhint.study.arm_result import title_of
from pursuhint.study.arms import WITHOUT_HINTS, is_of_sweep
from pursuhint.study.comparison import Comparison
from pursuhint.study.crossed import CrossedCell, CrossedComparison
from pursuhint.study.settings import SETTINGS

_PROPOSED = ("kmeans", "segments", "published")


@dataclass(frozen=True)
class Cell:
    """One comparison of arms.

    Attributes:
        title: how pictures call it.
        loss_set: name of its set of losses.
        epochs: length of its runs.
        comparison: the arms with their results.
    """

    title: str
    loss_set: str
    epochs: int
    comparison: Comparison

    @property
    def losses_and_length(self) -> str:
        """The title without a folder: ``at, 20 epochs``."""
        return CrossedCell(loss_set=self.loss_set, epochs=self.epochs, folder=".").title

    @property
    def arms(self) -> tuple[str, ...]:
        """Names of the arms but those of a sweep, which have a picture of their own."""
        return tuple(arm.name for arm in self.comparison.arms if not is_of_sweep(arm.name))

    def values(self, arm: str) -> tuple[float, ...]:
        """Results of an arm after the last epoch, one a seed."""
        return self.comparison.arm(arm).last.values


def cell_of(comparison: Comparison) -> Cell:
    """A comparison with one set of losses and one length, called as a crossed one calls its cells."""
    losses, epochs = "+".join(comparison.recipe["losses"]), int(comparison.recipe["epochs"])
    cell = Cell("", losses, epochs, comparison)
    return replace(cell, title=cell.losses_and_length)


def cells_of(crossed: CrossedComparison) -> list[Cell]:
    """The cells of a crossed comparison."""
    return [
        Cell(cell.title, cell.loss_set, cell.epochs, comparison)
        for cell, comparison in zip(crossed.cells, crossed.comparisons)
    ]


def load_cells(folders: Sequence[Path]) -> list[Cell]:
    """The cells of several comparisons, of arms or crossed; titles say which folder, if there are several.

    Raises:
        PursuhintError: a folder holds no finished comparison.
    """
    found = []
    for folder, name in zip(folders, short_names(folders)):
        prefix = f"{name}: " if len(folders) > 1 else ""
        found += [replace(cell, title=f"{prefix}{cell.title}") for cell in _cells_in(folder)]
    return found


def _cells_in(folder: Path) -> list[Cell]:
    if (folder / CrossedComparison.FILE).exists():
        return cells_of(CrossedComparison.load(folder))
    for place in (folder, folder / "compare"):  # the latter in the folder of a demo
        if (place / Comparison.FILE).exists():
            return [cell_of(Comparison.load(place))]
    raise PursuhintError(
        f"{folder} holds no finished comparison (looked for crossed.json and compare.json); "
        "pursuhint compare --out DIR writes one"
    )


def arms_of_all(cells: Sequence[Cell]) -> tuple[list[str], list[str]]:
    """The arms that every cell has, in the order of the first one, and those that only some have.

    Raises:
        PursuhintError: no arm is in every cell.
    """
    every = list(dict.fromkeys(arm for cell in cells for arm in cell.arms))
    common = [arm for arm in every if all(arm in cell.arms for cell in cells)]
    if not common:
        raise PursuhintError("there is no arm (besides single layers) that all of these comparisons have")
    return common, [arm for arm in every if arm not in common]


def proposed_arms(arms: Sequence[str]) -> list[str]:
    """Those whose hint points are chosen by similarity, or are the paper's."""
    return [arm for arm in arms if arm in _PROPOSED or arm.count(":") == 2]


def has_landscape(cell: Cell) -> bool:
    """Whether a cell has a single hint at two layers or more."""
    return sum(is_of_sweep(arm.name) for arm in cell.comparison.arms) > 1


def landscape_of(cell: Cell, others: Sequence[Cell] = ()) -> Landscape:
    """Accuracies of single layers, and where the other arms have their hints.

    Args:
        cell: that has a landscape.
        others: of the same teacher, whose arms are shown as well, see `arms_for`.
    """
    arms = cell.comparison.arms
    shown = [*arms, *(arm for other in others for arm in other.comparison.arms)]
    positions: dict[str, tuple[int, ...]] = {}
    for arm in shown:
        if arm.name not in WITHOUT_HINTS and not is_of_sweep(arm.name):
            places = {place for run in arm.runs for place in run.positions}
            positions.setdefault(title_of(arm.name), tuple(sorted(places)))
    kd = [arm.last.mean for arm in shown if arm.name == "kd"]
    layers = {arm.runs[0].positions[0]: arm.last.values for arm in arms if is_of_sweep(arm.name)}
    return Landscape(layers, positions, baseline=kd[0] if kd else None)


def arms_for(cell: Cell, others: Sequence[Cell]) -> list[Cell]:
    """Of other cells, those whose arms stand beside a landscape: with its losses and its length.

    Without one of this length, those of the longest length with its losses, since hint points do not depend
    on the length; without one of these losses none, since they may.
    """
    same = [other for other in others if other.loss_set == cell.loss_set]
    lengths = [other.epochs for other in same]
    length = cell.epochs if cell.epochs in lengths else max(lengths, default=0)
    return [other for other in same if other.epochs == length]


def check_same_teacher(cells: Sequence[Cell]) -> None:
    """Check that cells have one teacher, whose positions mean the same.

    Raises:
        PursuhintError: they have not.
    """
    first = cells[0]
    for cell in cells[1:]:
        if _teacher(cell) != _teacher(first):
            raise PursuhintError(
                f"{cell.title} has another teacher than {first.title}: positions in one mean nothing in the "
                "other; draw them apart"
            )


def _teacher(cell: Cell) -> object:
    """The fingerprint of a cell's teacher; its name and size where there is none."""
    path = cell.comparison.path / SETTINGS
    settings = read_json(path, "settings of the comparison") if path.exists() else {}
    inputs = settings.get("inputs") if isinstance(settings, Mapping) else None
    known = inputs.get("teacher") if isinstance(inputs, Mapping) else None
    return known or (cell.comparison.teacher.name, cell.comparison.teacher.parameters)
