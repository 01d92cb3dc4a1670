"""What the pictures are drawn with: colours, axes placed in inches, strips along the depth of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from scipy.optimize import isotonic_regression

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.plain_text import PlainTextFigure

# Okabe and Ito (2008), Color Universal Design; yellow and black are left out: one is too pale for a line on
# white, the other is kept for text.
_ORANGE, _SKY, _GREEN, _BLUE, _RED, _PURPLE = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
CYCLE = (_BLUE, _ORANGE, _GREEN, _PURPLE, _SKY, _RED)
DARK = (_BLUE, _RED)  # those on which white text reads better than black
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
INK, GRAY, PALE = "#222222", "#767676", "#E4E4E4"

TEXT = 9.0  # points; the smallest text is one point smaller


def canvas(width: float, height: float) -> tuple[Figure, Any]:
    """A figure and a function that places axes on it, all in inches from the lower left corner."""
    figure = PlainTextFigure(figsize=(width, height))
    FigureCanvasAgg(figure)

    def place(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / width, y / height, w / width, h / height))

    return figure, place


def plain_axes(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    figure = PlainTextFigure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    tidy(axes)
    if title:
        axes.set_title(title, fontsize=TEXT + 2, color=INK)
    return figure, axes


def tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GRAY)
        axes.spines[side].set_linewidth(0.7)
    axes.tick_params(labelsize=TEXT, colors=INK, length=3, width=0.7)


def legend_below(figure: Figure, axes: Axes, *, inches: float) -> None:
    """A legend under everything else, in as many columns as fit into a width."""
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=_columns(labels, inches=inches),
        fontsize=TEXT,
        frameon=False,
        handlelength=2.6,
    )


def _columns(labels: Sequence[str], *, inches: float) -> int:
    """How many columns of a legend fit into a width."""
    widest = 0.75 + 0.068 * max(len(label) for label in labels)
    return max(1, min(len(labels), int(inches / widest)))


def depth_ticks(positions: Sequence[int]) -> dict[int, str]:
    """Which of the layers to label, by index: up to 12 all; of more, the first and multiples of a step."""
    layers = len(positions)
    if layers <= 12:
        return {index: str(position) for index, position in enumerate(positions)}
    step = next((step for step in (2, 5, 10, 20, 50, 100) if layers / step <= 12), 200)
    rest = 1 if step == 2 else 0  # 1, 3, 5, ... but 1, 5, 10, ...
    labeled = {index: str(position) for index, position in enumerate(positions) if position % step == rest}
    return {0: str(positions[0]), **{index: label for index, label in labeled.items() if index * 2 >= step}}


def stretches(values: Sequence[int]) -> list[tuple[int, int]]:
    """Maximal stretches of equal neighbours as (first, last)."""
    starts = [0] + [i for i in range(1, len(values)) if values[i] != values[i - 1]]
    ends = [start - 1 for start in starts[1:]] + [len(values) - 1]
    return list(zip(starts, ends, strict=True))


def cluster_letter(cluster: int) -> str:
    """Name of a cluster: A, B, ..., Z, then numbers; positions are numbers already."""
    return chr(ord("A") + cluster) if cluster < 26 else str(cluster + 1)


def cluster_colors(clusters: Sequence[int]) -> list[str]:
    return [CYCLE[cluster % len(CYCLE)] for cluster in clusters]


def outline_clusters(axes: Axes, clusters: Sequence[int]) -> None:
    """Frame every cluster's block; a cluster in several stretches has frames off the diagonal too."""
    found = stretches(clusters)
    halo = [patheffects.Stroke(linewidth=2.6, foreground=INK), patheffects.Normal()]
    for first, last in found:
        for other, other_last in found:
            if clusters[first] != clusters[other]:
                continue
            axes.add_patch(
                Rectangle(
                    (first - 0.5, other - 0.5),
                    last - first + 1,
                    other_last - other + 1,
                    fill=False,
                    edgecolor="white",
                    linewidth=1.6,
                    joinstyle="miter",
                    path_effects=halo,
                    clip_on=False,
                    zorder=3,
                )
            )


def draw_strip(
    axes: Axes,
    values: Sequence[int],
    names: Sequence[str],
    colors: Sequence[str],
    *,
    text: bool = True,
) -> None:
    """A band along the depth of the network, one stretch of colour for every run of equal values."""
    layers = len(values)
    axes.imshow(
        np.arange(layers)[None],
        cmap=ListedColormap(list(colors)),
        aspect="auto",
        interpolation="nearest",
        vmin=-0.5,
        vmax=layers - 0.5,
    )
    axes.set_axis_off()
    inches = axes.get_position().width * axes.figure.get_figwidth()  # type: ignore[union-attr]
    for first, last in stretches(values):
        if first:
            axes.axvline(first - 0.5, color="white", linewidth=1.2)
        space = (last - first + 1) / layers * inches
        name = names[first]
        if text and space < 0.075 * len(name) + 0.04:
            name = name.split()[-1]  # "stage 3" becomes "3"
        if text and name and space >= 0.075 * len(name) + 0.02:
            ink = "white" if colors[first] in DARK else INK
            axes.text(
                (first + last) / 2, 0, name, ha="center", va="center_baseline", fontsize=TEXT - 1, color=ink
            )


def draw_stages(axes: Axes, stages: Sequence[int]) -> None:
    grays = {stage: ("#CFCFCF", "#EDEDED")[index % 2] for index, stage in enumerate(sorted(set(stages)))}
    draw_strip(axes, stages, [f"stage {stage}" for stage in stages], [grays[s] for s in stages])


def mark_hints(
    axes: Axes, hints: Mapping[int, int], layers: int, *, inches: float, leader: bool = True
) -> None:
    """Triangles that point down at the chosen layers (by index), with their positions written above them.

    Labels that would overlap are moved apart sideways and joined to their triangle.
    """
    axes.set_xlim(-0.5, layers - 0.5)
    axes.set_ylim(0, 1)
    axes.set_axis_off()
    spots = sorted(hints)
    width = 0.075 * len(str(max(hints.values(), default=1)))
    places = spread(spots, (width + 0.05) / inches * layers, -0.5, layers - 0.5)
    triangle, text = (0.16, 0.52) if leader else (0.24, 0.48)
    size = marker_size(inches, layers)
    axes.plot(spots, [triangle] * len(spots), linestyle="none", marker="v", markersize=size, color=INK)
    for spot, place in zip(spots, places, strict=True):
        if abs(place - spot) * inches / layers > 0.5 * width:
            axes.plot([spot, place], [triangle + 0.1, text], color=GRAY, linewidth=0.6)
        label = str(hints[spot])
        axes.text(place, text, label, ha="center", va="bottom", fontsize=TEXT, color=INK, fontweight="bold")


def marker_size(inches: float, layers: int) -> float:
    """Points that a mark on a layer may take where so many layers share a length."""
    return min(6.0, max(4.0, 60 * inches / layers))


def spread(spots: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The places nearest to sorted ``spots`` (least squares) that are ``gap`` apart and inside [low, high].

    Less one gap for every label to the left, the places need only be in order, which makes this an isotonic
    regression.
    """
    if not spots:
        return []
    gap = min(gap, (high - low) / len(spots))
    gaps = gap * np.arange(len(spots))
    fitted = isotonic_regression(np.asarray(spots, dtype=float) - gaps).x
    first, last = low + gap / 2, high - gap / 2 - gaps[-1]
    places: list[float] = (np.clip(fitted, first, last) + gaps).tolist()
    return places


def write_beside(figure: Figure, x: float, y: float, text: str) -> None:
    figure.text(
        x / figure.get_figwidth(),
        y / figure.get_figheight(),
        text,
        ha="left",
        va="center",
        fontsize=TEXT - 1,
        color=GRAY,
    )


def write_title(figure: Figure, middle: float, title: str) -> None:
    """A heading at the top edge, its middle so many inches from the left."""
    figure.text(
        middle / figure.get_figwidth(),
        1 - 0.10 / figure.get_figheight(),
        title,
        ha="center",
        va="top",
        fontsize=TEXT + 2,
        color=INK,
    )


def shortened(text: str, longest: int) -> str:
    """A text of at most so many characters; a longer one ends with an ellipsis."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def check_layers(what: str, values: Sequence[Any] | None, layers: int) -> None:
    if values is not None and len(values) != layers:
        raise PursuhintError(f"{layers} layers but {len(values)} {what}")


def check_positions(hints: Sequence[int], positions: Sequence[int]) -> None:
    for hint in hints:
        if hint not in positions:
            raise PursuhintError(f"hint position {hint} is not one of the {len(positions)} layers")
