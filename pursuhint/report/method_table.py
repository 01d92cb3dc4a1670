"""A study of methods as one table: accuracy with its spread, differences with their intervals, cost."""

from __future__ import annotations

from pursuhint._util.text_tables import pipe_table
from pursuhint.report.page_model import Grid
from pursuhint.report.text import duration, mean_std, signed
from pursuhint.study.method_comparison import MethodComparison, MethodResult
from pursuhint.study.paired_statistics import PairedComparison

__all__ = ["method_grid"]

_HEADS = ("Method", "Loss", "Looks at", "Top-1 (%)", "To the student alone", "To KD", "Time", "Memory")


def method_grid(study: MethodComparison) -> Grid:
    """One row a method, the most accurate first, with the teacher's hint points or features that it looks at.

    Differences are mean differences within a seed with their interval, in percentage points; ``*``
    marks an interval without zero, ``**`` one whose p-value also survives Holm's correction; ``=`` and
    ``==`` mark equality within the margin in the same way. Time is the run's as a multiple of the
    student alone's, memory what a step keeps (`pursuhint.study.step_memory`).
    """
    alone = study.method("alone")
    rows = tuple(
        (
            f"{method.title} ({method.name})" if method.weights and method.name != "alone" else method.title,
            _loss(method),
            "; ".join(
                f"{name}: {where}" if len(method.taps) > 1 else where for name, where in method.taps.items()
            )
            or "–",
            mean_std(method.last).removesuffix(" %"),
            _difference(study.difference(method.name, "alone")),
            _difference(study.difference(method.name, "kd")),
            f"{method.seconds / alone.seconds:.2f} ({duration(method.seconds)})",
            f"{method.memory / 2**20:.1f} MiB",
        )
        for method in study.ranked
    )
    return Grid(_HEADS, rows, frozenset({3, 4, 5, 6, 7}))


def markdown_table(study: MethodComparison) -> str:
    """The table of `method_grid` as Markdown, ending in a line break."""
    grid = method_grid(study)
    rows = [[cell.replace("*", "\\*") for cell in row] for row in grid.rows]
    return pipe_table(grid.heads, rows, grid.numbers)


def _loss(method: MethodResult) -> str:
    """``0.1 ce + 0.9 kd``; terms of weight zero are left out."""
    return " + ".join(f"{weight:g} {name}" for name, weight in method.weights.items() if weight)


def _difference(pair: PairedComparison | None) -> str:
    if pair is None:
        return "–"
    if pair.verdict == "equal":
        mark = " =" if pair.survives_correction is False else " =="
    elif pair.verdict == "unknown":
        mark = ""
    else:
        mark = "" if pair.verdict == "undecided" else "**" if pair.survives_correction else "*"
    interval = "" if pair.low is None or pair.high is None else f" [{signed(pair.low)}, {signed(pair.high)}]"
    return f"{signed(pair.mean)}{interval}{mark}"
