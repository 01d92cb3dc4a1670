"""One self-contained HTML page about what a folder holds: no script, no font, no picture from elsewhere.

The one script of the page is ours and lies in it; the page's policy names it by its hash, so that a browser
runs nothing else, even if a name on the page contains a script.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from pursuhint._util.atomic_files import make_folder, remove_halves, write_text
from pursuhint._util.output_folder import remove_leftovers
from pursuhint.published.formats import FORMATS
from pursuhint.report.comparison_table import comparison_markdown
from pursuhint.report.figures.interactive import script, script_hash
from pursuhint.report.folder_contents import Contents
from pursuhint.report.method_table import markdown_table
from pursuhint.report.page_model import FigureFolder, Page
from pursuhint.report.sections.analysis import build_analysis_page
from pursuhint.report.sections.comparison import build_comparison_page
from pursuhint.report.sections.cross_task import build_cross_task_page
from pursuhint.report.sections.crossed import build_crossed_page
from pursuhint.report.sections.methods import build_methods_page
from pursuhint.report.sections.run import build_run_page
from pursuhint.report.sections.search import build_search_page
from pursuhint.report.sections.transfer import build_transfer_page

__all__ = ["write_report"]


def write_report(folder: Path | str) -> Path:
    """Write the HTML report of an analysis, a run, a comparison, a search, a transfer or a demo.

    Args:
        folder: what a command, or `pursuhint.train`, `pursuhint.compare`, `pursuhint.demo.demo` or
            `pursuhint.Analysis.save`, wrote to.

    Returns:
        The page, ``FOLDER/report.html``. Its pictures are embedded, and lie in ``FOLDER/figures`` as well.
        Of a comparison or a transfer, ``FOLDER/table.md`` has the table of accuracies as Markdown.

    Raises:
        PursuhintError: the folder holds nothing known or something unfinished, or cannot be written.
    """
    contents = Contents.of(folder)
    if contents.crossed is not None:  # the pages of its cells, to which its own page refers
        for cell in contents.crossed.cells:
            write_report(contents.folder / cell.folder)
    figure_folder = FigureFolder(make_folder(contents.folder / "figures"))
    remove_leftovers(contents.folder / "figures")
    path = contents.folder / "report.html"
    remove_halves(path)
    write_text(path, render(build_page(contents, figure_folder)))
    if contents.methods is not None:
        write_text(contents.folder / "table.md", markdown_table(contents.methods))
    elif contents.crosstask is not None:
        write_text(contents.folder / "table.md", FORMATS["markdown"](contents.crosstask.table()))
    elif contents.transfer is not None:
        write_text(contents.folder / "table.md", FORMATS["markdown"](contents.transfer.table()))
    elif contents.comparison is not None:
        write_text(contents.folder / "table.md", comparison_markdown(contents.comparison))
    return path


def build_page(contents: Contents, figure_folder: FigureFolder) -> Page:
    """The page of a folder, by what the folder holds.

    Args:
        contents: the folder's results.
        figure_folder: the folder that figures are saved to.
    """
    if contents.methods is not None:
        return build_methods_page(contents.methods, figure_folder)
    if contents.crossed is not None:
        return build_crossed_page(contents.crossed, figure_folder)
    if contents.search is not None:
        return build_search_page(contents.search, figure_folder)
    if contents.crosstask is not None:
        return build_cross_task_page(contents.crosstask, figure_folder)
    if contents.transfer is not None:
        return build_transfer_page(contents.transfer, contents.folder, figure_folder)
    if contents.comparison is not None:
        return build_comparison_page(contents, contents.comparison, figure_folder)
    if contents.run is not None:
        return build_run_page(contents.run, contents.analysis, contents.teacher_student, figure_folder)
    assert contents.analysis is not None
    return build_analysis_page(contents.analysis, contents.folder, figure_folder)


def render(page: Page) -> str:
    """A page as HTML. Every value is escaped."""
    files = resources.files("pursuhint.report")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["typeset"] = _typeset
    template = environment.from_string(files.joinpath("page.html").read_text(encoding="utf-8"))
    # Style sheet and script are our own files, and their quotes must stay quotes.
    css = Markup(files.joinpath("page.css").read_text(encoding="utf-8"))
    program, policy = (Markup(script()), script_hash()) if page.interactive else (None, None)
    return template.render(page=page, css=css, script=program, script_hash=policy)


def _typeset(text: str) -> str:
    """Real minus signs, and no line break between a number and its per cent sign or around ``±``."""
    text = re.sub(r"(?<![\w.,/-])-(?=\d)", "−", text)
    return re.sub(
        r" (?=%)", "\N{NO-BREAK SPACE}", re.sub(r" ± ", "\N{NO-BREAK SPACE}±\N{NO-BREAK SPACE}", text)
    )
