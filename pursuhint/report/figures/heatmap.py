"""The map of how alike the layers of a network are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import ArrayLike

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import (
    CYCLE,
    INK,
    PALE,
    TEXT,
    canvas,
    check_layers,
    check_positions,
    cluster_colors,
    cluster_letter,
    depth_ticks,
    draw_stages,
    draw_strip,
    mark_hints,
    marker_size,
    outline_clusters,
    tidy,
    write_beside,
    write_title,
)

__all__ = ["similarity_heatmap"]


def similarity_heatmap(
    values: ArrayLike,
    *,
    metric: str = "similarity",
    clusters: Sequence[int] | None = None,
    hints: Sequence[int] = (),
    conventional: Sequence[int] = (),
    stages: Sequence[int] | None = None,
    positions: Sequence[int] | None = None,
    frequencies: Sequence[float] | None = None,
    title: str = "",
) -> Figure:
    """Similarity of every pair of layers, with clusters outlined and hint positions marked.

    Args:
        values: shape (layers, layers), in depth order; the scale runs from the smallest value, rounded down
            to a tenth, to 1 (or to the largest value, if that is more).
        metric: name of the metric, for the colour bar.
        clusters: cluster of every layer, from 0; None draws no borders.
        hints: chosen positions, counted from 1.
        conventional: positions that convention would choose, marked by open triangles.
        stages: resolution stage of every layer, from 1; None draws none.
        positions: position of every layer, ascending; the default counts them from 1. They differ from that
            when layers are left out of the matrix.
        frequencies: share of half-samples, in [0, 1], in which every layer was chosen, drawn as bars beside
            the matrix; None draws none.
        title: a heading; empty for none.

    Raises:
        PursuhintError: ``values`` is not a square matrix of finite numbers, or the other arguments do not
            fit its size.
    """
    matrix = np.asarray(values, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise PursuhintError(f"similarities form a square matrix, got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise PursuhintError("the similarities hold a value that is not finite")
    layers = len(matrix)
    check_layers("clusters", clusters, layers)
    check_layers("stages", stages, layers)
    check_layers("positions", positions, layers)
    check_layers("frequencies", frequencies, layers)
    numbers = list(range(1, layers + 1) if positions is None else positions)
    check_positions([*hints, *conventional], numbers)
    places = [numbers.index(hint) for hint in hints]

    # All lengths in inches, from the outside in.
    side = min(6.0, max(3.4, 0.105 * layers + 0.6))
    strip, gap = 0.17, 0.04
    bars = 0.86 if frequencies is not None else 0.0
    left, right, bottom = 0.75, 1.05 + bars, 0.58 + (strip + gap if stages is not None else 0.0)
    rows = (strip + gap if clusters else 0.0) + (strip + gap if conventional else 0.0)
    top = 0.12 + (0.34 if title else 0.0) + (0.42 if hints else 0.0) + rows
    figure, place = canvas(left + side + right, bottom + side + top)
    axes = place(left, bottom, side, side)

    low = min(math.floor(matrix.min() * 10) / 10, 0.9)
    image = axes.imshow(
        matrix, cmap="viridis", vmin=low, vmax=max(1.0, float(matrix.max())), interpolation="nearest"
    )
    ticks = depth_ticks(numbers)
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_yticks(list(ticks), list(ticks.values()))
    below = (strip + gap) * 72 if stages is not None else 0.0
    axes.tick_params(labelsize=TEXT, colors=INK, length=2.5, width=0.6)
    axes.tick_params(axis="x", pad=2 + below, length=0 if below else 2.5)
    axes.set_xlabel("layer position, in depth order", fontsize=TEXT, color=INK)
    axes.set_ylabel("layer position", fontsize=TEXT, color=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)

    annotated = layers <= 10
    if annotated:
        middle = (low + image.norm.vmax) / 2 if image.norm.vmax is not None else 0.5
        for row in range(layers):
            for column in range(layers):
                value = matrix[row, column]
                color = INK if value > middle else "white"
                axes.text(
                    column, row, f"{value:.2f}", ha="center", va="center", fontsize=TEXT - 1, color=color
                )

    above = bottom + side + gap
    if clusters is not None:
        outline_clusters(axes, clusters)
        letters = [cluster_letter(cluster) for cluster in clusters]
        draw_strip(place(left, above, side, strip), clusters, letters, cluster_colors(clusters))
        write_beside(figure, left + side + 0.08, above + strip / 2, "clusters")
        above += strip + gap
    if stages is not None:
        draw_stages(place(left, bottom - gap - strip, side, strip), stages)
    if frequencies is not None:
        _draw_frequencies(place(left + side + 0.12, bottom, bars - 0.28, side), frequencies, places)
    if conventional:
        row = place(left, above, side, strip)
        row.set_xlim(-0.5, layers - 0.5)
        row.set_ylim(0, 1)
        row.set_axis_off()
        row.plot(
            [numbers.index(position) for position in conventional],
            [0.45] * len(conventional),
            linestyle="none",
            marker="v",
            markersize=marker_size(side, layers),
            markerfacecolor="white",
            markeredgecolor=INK,
            markeredgewidth=0.9,
            clip_on=False,
        )
        write_beside(figure, left + side + 0.08, above + strip / 2, "convention")
        above += strip + gap
    if hints:
        label = "hint" if len(hints) == 1 else "hints"
        header = place(left, above, side, 0.40)
        mark_hints(header, dict(zip(places, hints)), layers, inches=side)
        write_beside(figure, left + side + 0.08, above + 0.26, f"{label} at")
        if not annotated:
            axes.plot(
                places,
                places,
                linestyle="none",
                marker="o",
                markersize=5,
                markerfacecolor="white",
                markeredgecolor=INK,
                markeredgewidth=1.0,
            )

    bar_axes = place(left + side + 0.18 + bars, bottom, 0.16, side * 0.94)
    bar = figure.colorbar(image, cax=bar_axes)
    bar.set_label(metric, fontsize=TEXT, color=INK)
    bar.ax.tick_params(labelsize=TEXT, colors=INK, length=2.5, width=0.6)
    bar.outline.set_visible(False)
    if title:
        write_title(figure, left + side / 2, title)
    return figure


def _draw_frequencies(axes: Axes, frequencies: Sequence[float], chosen: Sequence[int]) -> None:
    """How often every layer was chosen, a bar a row; those of the chosen layers are dark."""
    layers = len(frequencies)
    colors = [CYCLE[0] if layer in chosen else "#B7B7B7" for layer in range(layers)]
    axes.barh(range(layers), frequencies, height=0.86, color=colors, linewidth=0)
    axes.set_ylim(layers - 0.5, -0.5)
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_locator(NullLocator())
    axes.set_xticks([0, 1], ["0", "100 %"])
    axes.grid(axis="x", color=PALE, linewidth=0.6)
    axes.set_axisbelow(True)
    tidy(axes)
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(labelsize=TEXT - 1, length=0, pad=2)
    axes.set_xlabel("chosen in\nhalf-samples", fontsize=TEXT - 1, color=INK)
