"""Pictures and the HTML page that tell what a folder holds.

Importing this package imports no Matplotlib; the names below are resolved when they are first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pursuhint._util.registry import resolve

if TYPE_CHECKING:
    from pursuhint.report.figures import (
        Difference,
        Series,
        comparison_plot,
        inertia_curves,
        position_map,
        save_figure,
        series_colours,
        silhouette_curves,
        similarity_heatmap,
        training_curves,
    )
    from pursuhint.report.figures.layers import dendrogram, teacher_student_map
    from pursuhint.report.page import write_report

__all__ = [
    "Difference",
    "Series",
    "comparison_plot",
    "dendrogram",
    "inertia_curves",
    "position_map",
    "save_figure",
    "series_colours",
    "silhouette_curves",
    "similarity_heatmap",
    "teacher_student_map",
    "training_curves",
    "write_report",
]

_HOMES = {"write_report": "page", "dendrogram": "figures.layers", "teacher_student_map": "figures.layers"}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return resolve(f"{__name__}.{_HOMES.get(name, 'figures')}:{name}")
