"""What has to be trained for a table or figure of a paper: a grid of pairs of networks and methods."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from pursuhint._util.input_files import read_text
from pursuhint._util.registry import lookup
from pursuhint._util.yaml_text import parse_yaml
from pursuhint.errors import PursuhintError
from pursuhint.published.names import own_network
from pursuhint.published.results import PAPERS, PublishedResult, published_results

__all__ = ["Grid", "GridRow", "NetworkPair", "find_grid", "paper_grids"]

ALONE = ("teacher", "vanilla")
"""Methods of the tables that are a network trained alone."""

_ACCURACIES = ("top1", "top1 error", "mean accuracy", "linear probe top1")
NOTHING: Mapping[str, Any] = MappingProxyType({})

_MOST_SEEDS = 1000
_LARGEST_GRID = 1 << 18  # bytes of a file
_KEYS = frozenset(
    {"title", "seeds", "alone", "recipe", "settings", "pairs", "rows", "then", "commands", "left_out"}
    | {"remark", "drawing"}
)


@dataclass(frozen=True)
class GridRow:
    """A method of a grid.

    Attributes:
        name: as the table calls it, with ``| NOTE`` where the table has several rows of one method.
        recipe: name of a recipe or file.
        changes: of that recipe, as nested mappings.
    """

    name: str
    recipe: str
    changes: Mapping[str, Any]


class NetworkPair(NamedTuple):
    """Teacher and student of a cell, and the variant of the recipe for them.

    Attributes:
        teacher: empty for a network alone.
        student: the network that is trained.
        variant: empty for none.
    """

    teacher: str
    student: str
    variant: str = ""


@dataclass(frozen=True)
class Grid:
    """What stands behind a table or figure: pairs of networks, methods, and what to call afterwards.

    Attributes:
        name: such as ``icd-1`` or ``pursuhint-figure-3``; the file's name for a grid of one's own.
        title: what the table or figure shows.
        alone: how teachers, and students without one, are trained; None without a grid.
        rows: the methods; empty where nothing has to be trained.
        cells: a row and a pair each, in the order of pairs; without the networks that are trained alone.
        students: the networks that are also trained alone.
        teachers: the networks that are trained first, to teach.
        seeds: how many the paper averages over, as far as it says so.
        commands: what to call; with rows, what to call after they are trained. ``{out}`` stands for the
            folder.
        remark: what else has to be known.
        left_out: methods of the table that cannot be trained.
        drawing: whether it is a drawing without any numbers.
        folder: to which files of recipes are relative, for a grid of one's own.
    """

    name: str
    title: str
    alone: GridRow | None = None
    rows: tuple[GridRow, ...] = ()
    cells: tuple[tuple[GridRow, NetworkPair], ...] = ()
    students: tuple[str, ...] = ()
    teachers: tuple[str, ...] = ()
    seeds: int = 1
    commands: tuple[str, ...] = ()
    remark: str = ""
    left_out: tuple[str, ...] = ()
    drawing: bool = False
    folder: Path | None = None

    @property
    def trains(self) -> bool:
        """Whether there are cells to train."""
        return bool(self.rows)


def find_grid(name: str) -> Grid:
    """A shipped grid by name, or that of a YAML file.

    A file has the keys of the shipped ones: ``alone`` (a recipe), ``pairs`` (a list of ``TEACHER-STUDENT``)
    and ``rows`` (names and recipes). Recipes are names, or files beside it.

    Raises:
        PursuhintError: there is no such grid, nothing has to be trained for it, or the file is not valid.
    """
    if Path(name).suffix in (".yaml", ".yml"):
        text = read_text(Path(name), "grid", largest=_LARGEST_GRID)
        values = parse_yaml(text, f"the grid {name}")
        grid = replace(_grid(Path(name).stem, values, f"the grid {name}"), folder=Path(name).parent)
    else:
        grid = lookup("table or figure", paper_grids(), name)
    if not grid.trains:
        how = "it is a drawing" if grid.drawing else "; ".join(grid.commands) or grid.remark
        raise PursuhintError(f"nothing is trained for {name} ({grid.title}): {how.format(out='papers')}")
    return grid


@functools.cache
def paper_grids() -> Mapping[str, Grid]:
    """All tables and figures of the papers by name, in order of the papers."""
    found = {}
    for paper, entry in PAPERS.items():
        file = resources.files(__package__).joinpath("grids", f"{paper}.yaml")
        values = parse_yaml(file.read_text(encoding="utf-8"), f"the grids of {paper}")
        for number, one in values.items():
            name = f"{paper}-{number}"
            title = one.get("title") or entry.tables[number]
            found[name] = _grid(name, {**one, "title": title}, f"the grid {name}", paper=paper, table=number)
    return found


def _grid(name: str, values: Any, source: str, *, paper: str = "", table: str = "") -> Grid:
    if not isinstance(values, Mapping):
        raise PursuhintError(f"{source} must be a mapping of keys to values, got {type(values).__name__}")
    if unknown := sorted(map(str, set(values) - _KEYS)):
        raise PursuhintError(f"{source} has no key {unknown[0]!r}; there are {', '.join(sorted(_KEYS))}")
    rows = tuple(_rows(values, source))
    alone = values.get("alone")
    if not paper and (alone is None or not rows or not values.get("pairs")):
        raise PursuhintError(f"{source} needs the keys alone, pairs and rows")
    cells: tuple[tuple[GridRow, NetworkPair], ...] = ()
    students: tuple[str, ...] = ()
    if rows:
        figures = _figures(paper, table)
        pairs = _pairs(values, figures, source)
        wanted = _wanted(figures)
        cells = tuple(
            (row, pair)
            for pair in pairs
            for row in rows
            if not wanted or (row.name, pair.teacher, pair.student) in wanted
        )
        students = tuple(dict.fromkeys(pair.student for pair in pairs))
    return Grid(
        name,
        str(values.get("title") or name),
        None if alone is None else _row("alone", alone, source),
        rows,
        cells,
        students,
        tuple(dict.fromkeys(pair.teacher for _, pair in cells)),
        _seeds(values.get("seeds", 1), source),
        tuple(values.get("then") or values.get("commands") or ()),
        str(values.get("remark") or ""),
        tuple(values.get("left_out") or ()),
        drawing=bool(values.get("drawing")),
    )


def _seeds(number: Any, source: str) -> int:
    if isinstance(number, int) and not isinstance(number, bool) and 1 <= number <= _MOST_SEEDS:
        return number
    raise PursuhintError(f"{source}: seeds must be a number from 1 to {_MOST_SEEDS}, got {number!r}")


def _rows(values: Mapping[str, Any], source: str) -> Iterator[GridRow]:
    rows, settings = values.get("rows") or {}, values.get("settings") or {}
    if not isinstance(rows, Mapping):
        raise PursuhintError(f"{source}: rows must be a mapping of names to recipes")
    if not isinstance(settings, Mapping):
        raise PursuhintError(f"{source}: settings must be a mapping of keys to values")
    for name, value in rows.items():
        yield _row(str(name), value, source, recipe=values.get("recipe"), settings=settings)


def _row(
    name: str, value: Any, source: str, *, recipe: str | None = None, settings: Mapping[str, Any] = NOTHING
) -> GridRow:
    if isinstance(value, str):
        return GridRow(name, value, dict(settings))
    if isinstance(value, Mapping):
        own, changes = value.get("recipe"), value.get("set") or {}
        if isinstance(own, str) and isinstance(changes, Mapping):
            return GridRow(name, own, merged_changes(settings, changes))
        if own is None and isinstance(recipe, str):
            return GridRow(name, recipe, merged_changes(settings, value))
    raise PursuhintError(f"{source}: {name!r} must be a recipe's name, or a mapping with recipe and set")


def merged_changes(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings as one; the second wins."""
    result = dict(base)
    for key, value in changes.items():
        before = result.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        result[key] = merged_changes(before, value) if both else value  # type: ignore[arg-type]
    return result


def _figures(paper: str, table: str) -> list[PublishedResult]:
    return [
        one
        for one in published_results()
        if (one.source, one.table) == (paper, table) and one.metric in _ACCURACIES
    ]


def figures_of(name: str) -> list[PublishedResult]:
    """The published accuracies of a table by the name of its grid."""
    paper, _, table = name.rpartition("-")
    return _figures(paper, table)


def _networks(one: PublishedResult) -> tuple[str, str]:
    return own_network(one.teacher, one.dataset), own_network(one.student, one.dataset)


def _pairs(values: Mapping[str, Any], figures: list[PublishedResult], source: str) -> list[NetworkPair]:
    """The pairs that are given, or those of the figures; by default the variant is named as the pair."""
    given = values.get("pairs")
    if given is None:
        pairs = dict.fromkeys(map(_networks, figures))
        return [NetworkPair(*pair, "-".join(pair)) for pair in pairs]
    if isinstance(given, list):
        given = {name: name for name in given}
    if not isinstance(given, Mapping):
        raise PursuhintError(f"{source}: pairs must be a list of TEACHER-STUDENT")
    found = []
    for name, variant in given.items():
        teacher, dash, student = str(name).partition("-")
        if not (dash and teacher and student):
            raise PursuhintError(
                f"{source}: {name!r} is no pair; write TEACHER-STUDENT, as resnet56-resnet20"
            )
        found.append(NetworkPair(teacher, student, str(variant)))
    return found


def _wanted(figures: list[PublishedResult]) -> set[tuple[str, str, str]]:
    """Row, teacher and student of every figure; a row is named with and without the figure's note."""
    return {(row, *_networks(one)) for one in figures for row in (one.method, f"{one.method} | {one.note}")}
