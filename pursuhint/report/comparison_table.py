"""The table of a comparison of hint positions, as a grid and as Markdown."""

from __future__ import annotations

from pursuhint._util.text_tables import pipe_table
from pursuhint.report.page_model import Grid
from pursuhint.report.text import mean_std, signed
from pursuhint.study.comparison import Comparison
from pursuhint.study.paired_statistics import PairedComparison

__all__ = ["comparison_grid", "comparison_markdown"]


def comparison_grid(comparison: Comparison) -> Grid:
    """Arms with hint positions, accuracy, and difference and verdict against every control.

    Differences are mean differences within a seed with their interval, in percentage points.
    """
    rows = tuple(
        (
            arm.title,
            arm.positions_text,
            mean_std(arm.last).removesuffix(" %"),
            *(_against(comparison, arm.name, control) for control in comparison.against),
        )
        for arm in comparison.arms
    )
    heads = ("Hints", "Positions", "Top-1 (%)", *(f"Against {control}" for control in comparison.against))
    return Grid(heads, rows, frozenset(range(2, len(heads))))


def comparison_markdown(comparison: Comparison) -> str:
    """The table of `comparison_grid` as Markdown, with a last line on the margin; ends in a line break."""
    grid = comparison_grid(comparison)
    rows = [[cell.replace("|", "\\|") for cell in row] for row in grid.rows]
    text = pipe_table(grid.heads, rows, grid.numbers)
    if comparison.margin is not None:
        text += f"\nEqual: shown to differ by less than {comparison.margin:g} points.\n"
    return text


def _against(comparison: Comparison, arm: str, control: str) -> str:
    if arm == control:
        return "control"
    found = [pair for pair in comparison.against[control] if pair.arm == arm]
    return _difference(found[0]) if found else "–"


def _difference(pair: PairedComparison) -> str:
    if pair.low is None or pair.high is None:
        return signed(pair.mean)
    return f"{signed(pair.mean)} [{signed(pair.low)}, {signed(pair.high)}], {pair.verdict_in_short}"
