"""How inertia and silhouette change with the number of clusters."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import CYCLE, DASHES, GRAY, INK, MARKERS, TEXT, legend_below, plain_axes

__all__ = ["inertia_curves", "silhouette_curves"]


def inertia_curves(
    curves: Mapping[str, Mapping[int, float]], *, chosen: int | None = None, title: str = ""
) -> Figure:
    """Inertia against the number of clusters.

    Args:
        curves: for every algorithm, inertia by k.
        chosen: the k that was used, marked with a line.
        title: a heading; empty for none.

    Raises:
        PursuhintError: there is no curve, or an empty one.
    """
    figure, axes = _curves_over_k(curves, chosen, measure="inertia (lower is tighter)", title=title)
    axes.set_ylim(bottom=0)
    return figure


def silhouette_curves(
    curves: Mapping[str, Mapping[int, float]], *, chosen: int | None = None, title: str = ""
) -> Figure:
    """Mean silhouette against the number of clusters.

    Args:
        curves: for every algorithm, mean silhouette by k.
        chosen: the k that was used, marked with a line.
        title: a heading; empty for none.

    Raises:
        PursuhintError: there is no curve, or an empty one.
    """
    return _curves_over_k(curves, chosen, measure="mean silhouette (higher is clearer)", title=title)[0]


def _curves_over_k(
    curves: Mapping[str, Mapping[int, float]], chosen: int | None, *, measure: str, title: str
) -> tuple[Figure, Axes]:
    if not curves or not all(curves.values()):
        raise PursuhintError("curves over k need at least one algorithm and one value of k each")
    figure, axes = plain_axes(5.2, 3.6, title)
    for index, (name, curve) in enumerate(curves.items()):
        ks = sorted(curve)
        axes.plot(
            ks,
            [curve[k] for k in ks],
            color=CYCLE[(0, 5)[index]] if index < 2 else CYCLE[index % len(CYCLE)],
            linestyle=DASHES[index % len(DASHES)],
            marker=MARKERS[index % len(MARKERS)],
            markersize=5,
            markerfacecolor="white" if index else None,
            linewidth=1.5,
            label=name,
        )
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(y=0.16)
    axes.set_xlabel("number of clusters k", fontsize=TEXT, color=INK)
    axes.set_ylabel(measure, fontsize=TEXT, color=INK)
    if chosen is not None:
        axes.axvline(chosen, color=GRAY, linewidth=1.0, linestyle=(0, (2, 2)), zorder=0)
        low, high = axes.get_xlim()
        right = chosen < (low + high) / 2
        axes.annotate(
            f"used: k = {chosen}",
            (chosen, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4 if right else -4, -2),
            textcoords="offset points",
            ha="left" if right else "right",
            va="top",
            fontsize=TEXT - 1,
            color=GRAY,
        )
    legend_below(figure, axes, inches=5.0)
    return figure, axes
