"""Write a figure of a paper: the picture, and the numbers behind it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pursuhint._util.atomic_files import make_folder, write_json
from pursuhint._util.registry import lookup, resolve
from pursuhint.errors import PursuhintError
from pursuhint.report.figures import save_figure
from pursuhint.report.paper_figures import FIGURES
from pursuhint.report.paper_figures.drawn import DrawnFigure, FigureSettings

__all__ = ["write_figure"]


def write_figure(
    name: str, folders: Sequence[Path | str], out: Path | str, *, settings: FigureSettings | None = None
) -> DrawnFigure:
    """Draw a figure of the papers from own results.

    Args:
        name: a key of `pursuhint.report.FIGURES`.
        folders: what it is drawn from; runs, or analyses.
        out: gets ``NAME.png``, ``NAME.svg``, and ``NAME.json`` with the caption and all numbers.
        settings: see `pursuhint.report.FigureSettings`.

    Returns:
        The figure, its caption and its numbers.

    Raises:
        PursuhintError: there is no such figure, a folder is named twice or is not what the figure is drawn
            from, or something cannot be written.
    """
    entry = lookup("figure", FIGURES, name)
    paths = check_folders(folders)
    drawn: DrawnFigure = resolve(entry.draw)(paths, FigureSettings() if settings is None else settings)
    folder = make_folder(out)
    save_figure(drawn.figure, folder / f"{name}.png", svg=True)
    about = {"figure": name, "paper": entry.paper, "caption": drawn.caption}
    write_json(
        folder / f"{name}.json", {**about, "folders": [str(path) for path in paths], "numbers": drawn.numbers}
    )
    return drawn


def check_folders(folders: Sequence[Path | str]) -> list[Path]:
    """The folders as paths.

    Raises:
        PursuhintError: there is none, one is no folder, or one is named twice.
    """
    if isinstance(folders, str | Path) or not folders:
        raise PursuhintError(f"a figure is drawn from a list of folders, got {folders!r}")
    paths = [Path(folder) for folder in folders]
    for path in paths:
        if not path.is_dir():
            raise PursuhintError(f"no folder {path} to draw a figure from")
    known = [path.resolve() for path in paths]
    for path, resolved in zip(paths, known):
        if known.count(resolved) > 1:
            raise PursuhintError(f"the folder {path} is named twice; name each folder once")
    return paths
