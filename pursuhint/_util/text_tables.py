"""Tables as lines of text: aligned for a terminal, or in Markdown."""

from __future__ import annotations

from collections.abc import Collection, Sequence

__all__ = ["aligned", "aligned_within", "pipe_table"]


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


def aligned_within(lines: Sequence[Sequence[str]], width: int | None) -> list[str]:
    """Lines of `aligned`, in blocks of columns below each other where a table is wider than the terminal.

    Args:
        lines: heads and rows, equally many cells each. Every block repeats the first column.
        width: of the terminal; None for any.
    """
    widths = [max(map(len, column)) for column in zip(*lines)]
    if width is None or sum(widths) + 2 * (len(widths) - 1) <= width:
        return aligned(lines)
    blocks: list[list[int]] = [[]]
    for column in range(1, len(widths)):
        taken = widths[0] + sum(2 + widths[other] for other in blocks[-1])
        if blocks[-1] and taken + 2 + widths[column] > width:
            blocks.append([])
        blocks[-1].append(column)
    parts = [aligned([[line[0], *(line[column] for column in block)] for line in lines]) for block in blocks]
    return [line for number, part in enumerate(parts) for line in ([""] if number else []) + part]


def pipe_table(heads: Sequence[str], rows: Sequence[Sequence[str]], numbers: Collection[int]) -> str:
    """A table in Markdown, ending in a line break. Cells are written as they are.

    Args:
        heads: names of the columns.
        rows: cells of every row.
        numbers: columns that are aligned to the right.
    """
    rule = ["---:" if column in numbers else "---" for column in range(len(heads))]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (heads, rule, *rows))
