"""Tables of the papers: methods as rows, pairs of networks as columns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pursuhint._util.registry import did_you_mean, lookup
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


def _pivot(title: str, results: Sequence[PublishedResult]) -> Table:
    several_data = len({one.dataset for one in results}) > 1
    several_metrics = len({one.metric for one in results}) > 1

    def column(one: PublishedResult) -> str:
        pair = " → ".join(filter(None, (one.teacher, one.student)))
        parts = [pair, one.dataset if several_data else "", one.metric if several_metrics else ""]
        return ", ".join(filter(None, parts))

    # One row may have several figures for one cell, which then stand side by side.
    cells: dict[tuple[str, str], dict[str, list[str]]] = {}
    for one in results:
        found = cells.setdefault((one.method, _row_note(one, results)), {}).setdefault(column(one), [])
        if one.value not in found:
            found.append(one.value)
    columns = tuple(dict.fromkeys(map(column, results)))
    gains = {} if several_metrics or several_data else _gains(cells, columns)
    rows = []
    for (method, note), row in cells.items():
        name = f"{method} ({note})" if note else method
        rows.append((name, *(" / ".join(row.get(head, [])) for head in columns)))
        if gains:
            rows[-1] += (f"{gains[method, note]:+.2f}" if (method, note) in gains else "",)
    heads = ("method", *columns, *(("relative to KD (%)",) if gains else ()))
    return Table(title, heads, tuple(rows))


def _row_note(one: PublishedResult, results: Sequence[PublishedResult]) -> str:
    """The note, unless all figures of the table share it."""
    return one.note if len({other.note for other in results}) > 1 else ""


def _gains(
    cells: dict[tuple[str, str], dict[str, list[str]]], columns: Sequence[str]
) -> dict[tuple[str, str], float]:
    """Average relative improvement over KD of the methods with one figure for every pair."""
    whole = {
        key: [float(row[head][0]) for head in columns]
        for key, row in cells.items()
        if all(len(row.get(head, [])) == 1 and _is_number(row[head][0]) for head in columns)
    }
    kd, alone = whole.get(("KD", "")), whole.get(("vanilla", ""))
    if kd is None or alone is None:
        return {}
    return {
        (method, note): relative_improvement(values, kd, alone)
        for (method, note), values in whole.items()
        if method not in ("teacher", "vanilla", "KD")
    }


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
