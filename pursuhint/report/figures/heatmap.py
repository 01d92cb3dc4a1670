"""The heat map of the similarity of a network's layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
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

_STRIP, _GAP = 0.17, 0.04  # height of a strip of colours beside the matrix and the space around it, in inches
_ANNOTATED = 10  # up to so many layers the matrix shows its numbers


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
    matrix = _checked_matrix(values)
    layers = len(matrix)
    check_layers("clusters", clusters, layers)
    check_layers("stages", stages, layers)
    check_layers("positions", positions, layers)
    check_layers("frequencies", frequencies, layers)
    numbers = list(range(1, layers + 1) if positions is None else positions)
    check_positions([*hints, *conventional], numbers)
    chosen = [numbers.index(hint) for hint in hints]

    layout = Layout.of(
        layers,
        strips_above=bool(clusters) + bool(conventional),
        strip_below=stages is not None,
        bars=frequencies is not None,
        hints=bool(hints),
        title=bool(title),
    )
    side = layout.side
    figure, place = canvas(layout.width, layout.height)
    axes = place(layout.left, layout.bottom, side, side)
    image = _draw_matrix(axes, matrix, numbers, layout)

    # Rows above the matrix, from the inside out: clusters, conventional positions, hint positions.
    above = layout.bottom + side + _GAP
    beside = layout.left + side + 0.08
    if clusters is not None:
        outline_clusters(axes, clusters)
        letters = [cluster_letter(cluster) for cluster in clusters]
        draw_strip(place(layout.left, above, side, _STRIP), clusters, letters, cluster_colors(clusters))
        write_beside(figure, beside, above + _STRIP / 2, "clusters")
        above += _STRIP + _GAP
    if stages is not None:
        draw_stages(place(layout.left, layout.bottom - _GAP - _STRIP, side, _STRIP), stages)
    if frequencies is not None:
        bars = place(layout.left + side + 0.12, layout.bottom, layout.bars - 0.28, side)
        _draw_frequencies(bars, frequencies, chosen)
    if conventional:
        row = place(layout.left, above, side, _STRIP)
        _mark_conventional(row, [numbers.index(position) for position in conventional], layers, side)
        write_beside(figure, beside, above + _STRIP / 2, "convention")
        above += _STRIP + _GAP
    if hints:
        header = place(layout.left, above, side, 0.40)
        mark_hints(header, dict(zip(chosen, hints)), layers, inches=side)
        write_beside(figure, beside, above + 0.26, "hint at" if len(hints) == 1 else "hints at")
        if layers > _ANNOTATED:  # in a small matrix a dot would cover the number
            _dot_diagonal(axes, chosen)

    bar_axes = place(layout.left + side + 0.18 + layout.bars, layout.bottom, 0.16, side * 0.94)
    bar = figure.colorbar(image, cax=bar_axes)
    bar.set_label(metric, fontsize=TEXT, color=INK)
    bar.ax.tick_params(labelsize=TEXT, colors=INK, length=2.5, width=0.6)
    bar.outline.set_visible(False)
    if title:
        write_title(figure, layout.left + side / 2, title)
    return figure


@dataclass(frozen=True)
class Layout:
    """Where the parts of a heat map are, in inches.

    Attributes:
        side: of the square matrix.
        left: margin for the labels of the rows.
        right: margin for bars and colour bar.
        bottom: margin for the labels of the columns, and for a strip below.
        top: margin for the rows above the matrix and for the title.
        bars: width of the bars beside the matrix, 0 without any.
        strip_below: whether a strip lies between the matrix and the labels of the columns.
    """

    side: float
    left: float
    right: float
    bottom: float
    top: float
    bars: float
    strip_below: bool

    @classmethod
    def of(
        cls, layers: int, *, strips_above: int, strip_below: bool, bars: bool, hints: bool, title: bool
    ) -> Layout:
        """The layout of a matrix of so many layers with the parts that are drawn."""
        width = 0.86 if bars else 0.0
        return cls(
            side=min(6.0, max(3.4, 0.105 * layers + 0.6)),
            left=0.75,
            right=1.05 + width,
            bottom=0.58 + (_STRIP + _GAP if strip_below else 0.0),
            top=0.12
            + (0.34 if title else 0.0)
            + (0.42 if hints else 0.0)
            + sum([_STRIP + _GAP] * strips_above),
            bars=width,
            strip_below=strip_below,
        )

    @property
    def width(self) -> float:
        """Of the whole figure."""
        return self.left + self.side + self.right

    @property
    def height(self) -> float:
        """Of the whole figure."""
        return self.bottom + self.side + self.top


def _checked_matrix(values: ArrayLike) -> np.ndarray:
    matrix = np.asarray(values, dtype=float)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1] or matrix.size == 0:
        raise PursuhintError(f"similarities form a square matrix, got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise PursuhintError("the similarities hold a value that is not finite")
    return matrix


def _draw_matrix(axes: Axes, matrix: np.ndarray, numbers: Sequence[int], layout: Layout) -> AxesImage:
    """The coloured squares with labelled axes; the numbers in them where there are few layers."""
    low = min(math.floor(matrix.min() * 10) / 10, 0.9)
    image = axes.imshow(
        matrix, cmap="viridis", vmin=low, vmax=max(1.0, float(matrix.max())), interpolation="nearest"
    )
    ticks = depth_ticks(numbers)
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_yticks(list(ticks), list(ticks.values()))
    below = (_STRIP + _GAP) * 72 if layout.strip_below else 0.0  # in points, as Matplotlib pads labels
    axes.tick_params(labelsize=TEXT, colors=INK, length=2.5, width=0.6)
    axes.tick_params(axis="x", pad=2 + below, length=0 if below else 2.5)
    axes.set_xlabel("layer position, in depth order", fontsize=TEXT, color=INK)
    axes.set_ylabel("layer position", fontsize=TEXT, color=INK)
    for spine in axes.spines.values():
        spine.set_visible(False)
    if len(matrix) <= _ANNOTATED:
        # Dark text on the light half of the scale, white on the dark half.
        middle = (low + image.norm.vmax) / 2 if image.norm.vmax is not None else 0.5
        for (row, column), value in np.ndenumerate(matrix):
            color = INK if value > middle else "white"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=TEXT - 1, color=color)
    return image


def _mark_conventional(axes: Axes, places: Sequence[int], layers: int, inches: float) -> None:
    """Open triangles that point down at the conventional layers."""
    axes.set_xlim(-0.5, layers - 0.5)
    axes.set_ylim(0, 1)
    axes.set_axis_off()
    axes.plot(
        places,
        [0.45] * len(places),
        linestyle="none",
        marker="v",
        markersize=marker_size(inches, layers),
        markerfacecolor="white",
        markeredgecolor=INK,
        markeredgewidth=0.9,
        clip_on=False,
    )


def _dot_diagonal(axes: Axes, places: Sequence[int]) -> None:
    """A dot on the diagonal at each chosen layer."""
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


def _draw_frequencies(axes: Axes, frequencies: Sequence[float], chosen: Sequence[int]) -> None:
    """How often every layer was chosen, one bar in each row; the bars of chosen layers are dark."""
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
