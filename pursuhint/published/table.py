"""Tables of the papers: methods as rows, pairs of networks as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pursuhint._util.registry import did_you_mean, lookup
from pursuhint._util.text_tables import aligned
from pursuhint.errors import PursuhintError
from pursuhint.published.improvement import relative_improvement
from pursuhint.published.results import PAPERS, PublishedResult, published_results

__all__ = ["Table", "published_table"]


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        title: what it shows.
        heads: names of the columns; the first is that of the rows' names.
        rows: cells of every row, as many as there are heads; empty where there is no figure.
    """

    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def __str__(self) -> str:
        """The title and the aligned columns, as a terminal shows them."""
        return "\n".join([self.title, *aligned([self.heads, *self.rows])])


def published_table(paper: str, table: str | int) -> Table:
    """A table of a paper as published.

    A row is a method with what distinguishes it (class overlap, positions), a column a pair of teacher and
    student, with data set and measure where the table has several. Where the table has KD and students
    alone, a last column holds the average relative improvement over KD of the methods that have a figure
    for every pair; see `relative_improvement`.

    Args:
        paper: a key of `PAPERS`.
        table: its number.

    Raises:
        PursuhintError: there is no such paper or table; the message names those that there are.
    """
    entry = lookup("paper", PAPERS, paper)
    number = str(table)
    if number not in entry.tables:
        raise PursuhintError(f"{paper} has no table {number!r}; {did_you_mean(number, entry.tables)}")
    results = [one for one in published_results() if (one.source, one.table) == (paper, number)]
    return _pivot(f"{paper}, table {number}: {entry.tables[number]}", results)


_Cells = dict[tuple[str, str], dict[str, dict[str, float | None]]]
"""Figures as printed and as numbers, by method and note, by column."""


def _pivot(title: str, results: Sequence[PublishedResult]) -> Table:
    several_data = len({one.dataset for one in results}) > 1
    several_metrics = len({one.metric for one in results}) > 1

    def column(one: PublishedResult) -> str:
        pair = " → ".join(filter(None, (one.teacher, one.student)))
        parts = [pair, one.dataset if several_data else "", one.metric if several_metrics else ""]
        return ", ".join(filter(None, parts))

    shared_note = len({one.note for one in results}) == 1
    # One row may have several figures for one cell, which then stand side by side.
    cells: _Cells = {}
    for one in results:
        row = cells.setdefault((one.method, "" if shared_note else one.note), {})
        row.setdefault(column(one), {})[one.value] = one.number
    columns = tuple(dict.fromkeys(map(column, results)))
    gains = {} if several_metrics or several_data else _gains(cells, columns)
    rows = []
    for (method, note), row in cells.items():
        name = f"{method} ({note})" if note else method
        rows.append((name, *(" / ".join(row.get(head, {})) for head in columns)))
        if gains:
            rows[-1] += (f"{gains[method, note]:+.2f}" if (method, note) in gains else "",)
    heads = ("method", *columns, *(("relative to KD (%)",) if gains else ()))
    return Table(title, heads, tuple(rows))


def _gains(cells: _Cells, columns: Sequence[str]) -> dict[tuple[str, str], float]:
    """Average relative improvement over KD of the methods with one figure for every pair."""
    whole: dict[tuple[str, str], list[float]] = {}
    for key, row in cells.items():
        figures = [list(row.get(head, {}).values()) for head in columns]
        numbers = [values[0] for values in figures if len(values) == 1 and values[0] is not None]
        if len(numbers) == len(columns):
            whole[key] = numbers
    kd, alone = whole.get(("KD", "")), whole.get(("vanilla", ""))
    if kd is None or alone is None:
        return {}
    return {
        (method, note): relative_improvement(values, kd, alone)
        for (method, note), values in whole.items()
        if method not in ("teacher", "vanilla", "KD")
    }
