"""Tables as lines of text: aligned for a terminal, or in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["aligned", "pipe_table"]


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Lines with columns of equal width: the first one to the left, the others to the right.

    Args:
        lines: heads and rows, equally many cells each. Columns are as wide as their longest cell.
    """
    widths = [max(map(len, column)) for column in zip(*lines)]
    return [
        "  ".join(
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths))
        ).rstrip()
        for line in lines
    ]


def pipe_table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[int]) -> str:
    """A table in Markdown, ending in a line break. Cells are written as they are.

    Args:
        heads: names of the columns.
        rows: cells of every row.
        numbers: columns that are aligned to the right.
    """
    rule = ["---:" if column in numbers else "---" for column in range(len(heads))]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, rule, *rows))
