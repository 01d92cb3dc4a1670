"""Tables as text for the terminal, Markdown, LaTeX, CSV and HTML."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Callable, Mapping
from types import MappingProxyType

from pursuhint._util.text_tables import aligned_within, pipe_table
from pursuhint.published.table import Table


def as_text(table: Table, width: int | None = None) -> str:
    """Columns of equal width, figures to the right; those that do not fit into ``width`` stand below."""
    return "\n".join([table.title, *aligned_within([table.heads, *table.rows], width)]) + "\n"


def as_markdown(table: Table) -> str:
    """A pipe table."""
    heads, *rows = ([_markdown(cell) for cell in line] for line in (table.heads, *table.rows))
    return f"**{_markdown(table.title)}**\n\n{pipe_table(heads, rows, range(1, len(heads)))}"


def as_latex(table: Table) -> str:
    """A ``table`` with a ``tabular`` of the package booktabs."""
    columns = "l" + "r" * (len(table.heads) - 1)
    body = "".join(f"    {' & '.join(map(_latex, line))} \\\\\n" for line in table.rows)
    return (
        "\\begin{table}\n  \\centering\n"
        f"  \\caption{{{_latex(table.title)}}}\n  \\begin{{tabular}}{{{columns}}}\n    \\toprule\n"
        f"    {' & '.join(map(_latex, table.heads))} \\\\\n    \\midrule\n{body}"
        "    \\bottomrule\n  \\end{tabular}\n\\end{table}\n"
    )


def as_csv(table: Table) -> str:
    """Comma-separated values with a line of heads, without the title."""
    written = io.StringIO()
    csv.writer(written, lineterminator="\n").writerows([table.heads, *table.rows])
    return written.getvalue()


def as_html(table: Table) -> str:
    """A ``table`` element, to be put into a page."""
    heads = "".join(f'<th scope="col">{html.escape(head)}</th>' for head in table.heads)
    rows = "".join(
        "".join(
            [
                f'<tr><th scope="row">{html.escape(name)}</th>',
                *(f"<td>{html.escape(cell)}</td>" for cell in cells),
                "</tr>\n",
            ]
        )
        for name, *cells in table.rows
    )
    return (
        f"<table>\n<caption>{html.escape(table.title)}</caption>\n"
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n"
    )


def as_html_page(table: Table) -> str:
    """A page with the table alone, light or dark as the reader's screen is; a wide table scrolls."""
    title = html.escape(table.title)
    body = as_html(table).replace(f"<caption>{title}</caption>\n", "", 1)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>\n{_STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title}</h1>\n"
        f'<div tabindex="0" role="group" aria-label="Table">\n{body}</div>\n</main>\n</body>\n</html>\n'
    )


_STYLE = """:root { color-scheme: light dark; }
body { margin: 2rem auto; padding: 0 1rem; max-width: 72rem; }
body { font: 1rem/1.5 system-ui, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.2rem; }
div { overflow-x: auto; }
table { border-collapse: collapse; font-size: .92rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #8886; text-align: right; white-space: nowrap; }
th:first-child { position: sticky; left: 0; background: Canvas; text-align: left; }
"""


def without_empty_columns(table: Table) -> Table:
    """The table without the columns in which no row has anything."""
    kept = [i for i in range(len(table.heads)) if i == 0 or any(row[i] for row in table.rows)]
    heads, *rows = (tuple(line[i] for i in kept) for line in (table.heads, *table.rows))
    return Table(table.title, heads, tuple(rows))


FORMATS: Mapping[str, Callable[[Table], str]] = MappingProxyType(
    {"text": as_text, "markdown": as_markdown, "latex": as_latex, "csv": as_csv, "html": as_html}
)
"""Writers of a table by name."""

_LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "^": r"\textasciicircum{}",
    "~": r"\textasciitilde{}",
    "→": r"$\to$",
    "±": r"$\pm$",
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in text)


def _markdown(text: str) -> str:
    return "".join(f"\\{character}" if character in r"\|*_^" else character for character in text)
