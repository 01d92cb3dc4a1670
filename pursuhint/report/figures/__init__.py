"""Pictures of an analysis, of training and of a comparison.

Every function takes plain numbers and returns a Matplotlib ``Figure`` that belongs to no window and to no
global state, so that pictures can be made in any thread and without a display. Colors are the palette of
Okabe and Ito and the scales cividis and viridis, which stay distinct under the common forms of color
blindness; no information is in the color alone. Each file draws one kind of picture; this one exports all.
"""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from pursuhint._util.atomic_files import atomic_path
from pursuhint.report.figures.comparison import Difference, comparison_plot
from pursuhint.report.figures.curves_over_k import inertia_curves, silhouette_curves
from pursuhint.report.figures.grouped_bars import grouped_bars
from pursuhint.report.figures.heatmap import similarity_heatmap
from pursuhint.report.figures.landscape import position_landscape
from pursuhint.report.figures.length_curves import length_curves
from pursuhint.report.figures.overlap_curves import overlap_curves, weight_histogram
from pursuhint.report.figures.pairs_by_scheme import pairs_by_scheme
from pursuhint.report.figures.positions import position_map
from pursuhint.report.figures.training_curves import Series, series_colors, training_curves

__all__ = [
    "Difference",
    "Series",
    "comparison_plot",
    "grouped_bars",
    "inertia_curves",
    "length_curves",
    "overlap_curves",
    "pairs_by_scheme",
    "position_landscape",
    "position_map",
    "save_figure",
    "series_colors",
    "silhouette_curves",
    "similarity_heatmap",
    "training_curves",
    "weight_histogram",
]

_DPI = 200


def save_figure(figure: Figure, path: Path | str, *, svg: bool = False) -> Path:
    """Write a figure as PNG (200 dots an inch), and beside it as SVG on request.

    Args:
        figure: the figure.
        path: file ending in ``.png``.
        svg: also write the same name ending in ``.svg``.

    Returns:
        The path of the PNG file.

    Raises:
        PursuhintError: a file cannot be written.
    """
    path = Path(path).with_suffix(".png")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=_DPI)
    if svg:
        with atomic_path(path.with_suffix(".svg")) as temporary:
            figure.savefig(temporary, format="svg")
    return path
