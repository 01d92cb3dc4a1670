"""The cells of a grid: one run folder each, with a recipe that says all."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pursuhint.errors import PursuhintError
from pursuhint.models import MODELS
from pursuhint.models.names import check_network_name
from pursuhint.published.grids import Grid, GridRow, NetworkPair, merged_changes
from pursuhint.training.recipe.inheritance import merged, read_recipe, variant_names
from pursuhint.training.recipe.received import check_code
from pursuhint.training.recipe.schema import Recipe

__all__ = ["GridCell", "GridOptions"]

WEIGHTS = "student.safetensors"


@dataclass(frozen=True)
class GridOptions:
    """What is changed in every cell of a grid.

    Attributes:
        seeds: None for 0, 1, ... as many as the paper averages over.
        epochs: of every cell; milestones of the learning rate, and stages and ramps of losses, are shortened
            in proportion. None for the recipes' own.
        data: the data set in place of the recipes'.
        data_root: folder of the data.
        download: download missing data.
        assignments: ``KEY=VALUE`` for every recipe, as `pursuhint.training.Recipe.override` reads them.
        teachers: files of weights of teachers that are at hand, by network; the others are cells.
        overwrite: replace cells of other settings in the folder, unless a worker trains one of them.
    """

    seeds: tuple[int, ...] | None = None
    epochs: int | None = None
    data: str | None = None
    data_root: str | None = None
    download: bool = False
    assignments: tuple[str, ...] = ()
    teachers: Mapping[str, str] = field(default_factory=dict)
    overwrite: bool = False

    def lines(self) -> list[str]:
        """What differs from the paper, one clause each."""
        said = []
        if self.data is not None:
            said.append(f"data {self.data}")
        if self.epochs is not None:
            number = f"{self.epochs} epoch{'s' * (self.epochs > 1)}"
            said.append(f"{number}, with milestones, stages and ramps in proportion")
        if self.seeds is not None:
            said.append(f"seeds {', '.join(map(str, self.seeds))}")
        return [*said, *self.assignments]


AS_PUBLISHED = GridOptions()


@dataclass(frozen=True)
class GridCell:
    """One run of a grid.

    Attributes:
        name: of its folder, as ``cifar100-kd/resnet56-resnet20/seed-0``.
        row: the method, as the table calls it; ``alone`` for networks without a teacher.
        recipe: complete, with the teacher's file.
        teacher: name of the cell whose student is the teacher; None without one, or if its file was given.
    """

    name: str
    row: str
    recipe: Recipe
    teacher: str | None


def grid_cells(grid: Grid, out: Path, options: GridOptions) -> tuple[GridCell, ...]:
    """All cells of a grid: for every seed teachers first, then pair by pair the student alone and the rows.

    Args:
        grid: see `pursuhint.published.find_grid`.
        out: the folder that holds the cells' folders.
        options: what is changed.

    Raises:
        PursuhintError: a recipe does not exist or is not valid, or names code.
    """
    alone = grid.alone
    assert alone is not None
    cells: dict[str, GridCell] = {}
    files = dict(options.teachers)
    if unknown := sorted(set(files) - set(grid.teachers)):
        raise PursuhintError(
            f"{grid.name} has no teacher {unknown[0]!r}; there are {', '.join(grid.teachers)}"
        )
    templates: dict[tuple[str, NetworkPair], tuple[str, dict[str, Any]]] = {}

    def template(row: GridRow, pair: NetworkPair) -> tuple[str, dict[str, Any]]:
        if (row.name, pair) not in templates:
            templates[row.name, pair] = _template(grid, row, pair, options=options)
        return templates[row.name, pair]

    def add(row: GridRow, pair: NetworkPair, seed: int) -> None:
        folder, values = template(row, pair)
        values, before = {**values, "seed": seed}, None
        if pair.teacher:
            if pair.teacher in files:
                file = Path(files[pair.teacher]).absolute()
            else:
                before = f"{template(alone, NetworkPair('', pair.teacher))[0]}/seed-{seed}"
                file = (out / before / WEIGHTS).absolute()
            values["teacher"] = {**values["teacher"], "checkpoint": str(file)}
        name = f"{folder}/seed-{seed}"
        cells.setdefault(name, GridCell(name, row.name, Recipe.from_dict(values, source=name), before))

    for seed in options.seeds if options.seeds is not None else range(grid.seeds):
        for teacher in grid.teachers:
            if teacher not in files:
                add(alone, NetworkPair("", teacher), seed)
        for student in grid.students:
            add(alone, NetworkPair("", student), seed)
        for row, pair in grid.cells:
            add(row, pair, seed)
    return tuple(cells.values())


def _template(
    grid: Grid, row: GridRow, pair: NetworkPair, *, options: GridOptions
) -> tuple[str, dict[str, Any]]:
    """Folder without the seed, and the values of the recipe, of a row and a pair."""
    teacher, student, _ = pair
    for network in filter(None, (teacher, student)):
        check_network_name(network, MODELS)
    values, changes = _values(_place(grid, row.recipe), pair), dict(row.changes)
    if row is grid.alone:
        changes["teacher"] = None
    values = merged(values, changes)
    recipe = Recipe.from_dict(values, source=f"{grid.name}, {row.name}")
    check_code(recipe, f"the grid {grid.name}", trust_code=False)
    recipe = _changed(recipe, options).override(options.assignments)
    own = _without(row.changes, "teacher")
    label = slug(row.recipe.removeprefix("_").removesuffix(".yaml"))
    if own:
        label = f"{slug(row.name)}-{_short_hash([row.recipe, own])}"
    networks = slug(student) if not teacher else f"{slug(teacher)}-{slug(student)}"
    return f"{label}/{networks}", recipe.to_dict()


def _place(grid: Grid, recipe: str) -> str:
    """A recipe by name, or its file, which is relative to that of the grid."""
    is_file = grid.folder is not None and recipe.endswith((".yaml", ".yml"))
    return str(grid.folder / recipe) if is_file and grid.folder is not None else recipe


def _values(name: str, pair: NetworkPair) -> dict[str, Any]:
    """Plain values of a recipe for a pair: its own, one of its variants, or with other networks."""
    values, _ = read_recipe(name)
    known = variant_names(name)
    asked = pair.variant if pair.teacher else pair.student
    if asked in known:
        values, _ = read_recipe(f"{name}:{asked}")
    for role, network in (("student", pair.student), ("teacher", pair.teacher)):
        if not network:
            continue
        config = values.get(role)
        there = config.get("network") if isinstance(config, Mapping) else config
        if there != network:
            values = {**values, role: network}
    return values


def _changed(recipe: Recipe, options: GridOptions) -> Recipe:
    values = recipe.to_dict()
    if options.data is not None:
        values["data"] = {**values["data"], "name": options.data, "root": None}
    if options.data_root is not None:
        values["data"] = {**values["data"], "root": options.data_root}
    if options.download:
        values["data"] = {**values["data"], "download": True}
    if options.epochs is not None and options.epochs != recipe.epochs:
        values = _shortened(values, options.epochs)
    return Recipe.from_dict(values)


def _shortened(values: dict[str, Any], epochs: int) -> dict[str, Any]:
    share = epochs / values["epochs"]
    schedule = dict(values["schedule"])
    if schedule["milestones"]:
        scaled = (round(milestone * share) for milestone in schedule["milestones"])
        schedule["milestones"] = [one for one in dict.fromkeys(scaled) if one >= 1]
    losses = {}
    for name, loss in values["losses"].items():
        losses[name] = {
            key: math.ceil(value * share) if key.endswith("_epochs") and isinstance(value, int) else value
            for key, value in loss.items()
        }
    return {**values, "epochs": epochs, "schedule": schedule, "losses": losses}


def _without(changes: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in merged_changes({}, changes).items() if name != key}


def _short_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:6]


def slug(text: str) -> str:
    """Text as a part of a folder's name."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.")
