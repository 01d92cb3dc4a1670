"""Figures and the HTML report of an analysis, a run or a study.

Importing this package imports no Matplotlib; the names below are resolved when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pursuhint._util.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from pursuhint.report.comparison_table import comparison_grid, comparison_markdown
    from pursuhint.report.figures import save_figure
    from pursuhint.report.figures.comparison import Difference, comparison_plot
    from pursuhint.report.figures.curves_over_k import inertia_curves, silhouette_curves
    from pursuhint.report.figures.grouped_bars import grouped_bars
    from pursuhint.report.figures.heatmap import similarity_heatmap
    from pursuhint.report.figures.landscape import position_landscape
    from pursuhint.report.figures.layers import dendrogram, teacher_student_map
    from pursuhint.report.figures.length_curves import length_curves
    from pursuhint.report.figures.overlap_curves import overlap_curves, weight_histogram
    from pursuhint.report.figures.pairs_by_scheme import pairs_by_scheme
    from pursuhint.report.figures.positions import position_map
    from pursuhint.report.figures.training_curves import Series, series_colors, training_curves
    from pursuhint.report.method_table import method_grid
    from pursuhint.report.page import write_report
    from pursuhint.report.paper_figures import FIGURES, PaperFigure
    from pursuhint.report.paper_figures.drawn import DrawnFigure, FigureSettings
    from pursuhint.report.paper_figures.write import write_figure
    from pursuhint.report.sections.methods import findings

__getattr__, __dir__, __all__ = lazy_exports(__name__)
