"""Pictures of an analysis, of training and of a comparison.

Every function takes plain numbers and returns a Matplotlib ``Figure`` that belongs to no window and to no
global state, so that pictures can be made in any thread and without a display. Colours are those of
Okabe and Ito and of the cividis and viridis scales, which stay distinct under the common forms of colour
blindness; nothing is told by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from pursuhint.errors import PursuhintError
from pursuhint.files import atomic_path

__all__ = [
    "Difference",
    "Series",
    "comparison_plot",
    "inertia_curves",
    "position_map",
    "save_figure",
    "series_colours",
    "similarity_heatmap",
    "training_curves",
]

# Okabe and Ito (2008), Color Universal Design; yellow and black are left out: one is too pale for a line on
# white, the other is kept for text.
_ORANGE, _SKY, _GREEN, _BLUE, _RED, _PURPLE = "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7"
_CYCLE = (_BLUE, _ORANGE, _GREEN, _PURPLE, _SKY, _RED)
_DARK = (_BLUE, _RED)  # those on which white text reads better than black
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)))
_INK, _GREY, _PALE = "#222222", "#767676", "#E4E4E4"

_TEXT = 9.0  # points; the smallest text is one point smaller
_DPI = 200


@dataclass(frozen=True)
class Series:
    """What to draw of one run or of one arm.

    Attributes:
        name: text of the legend.
        runs: for every seed, the records of its epochs (the lines of ``metrics.jsonl``).
    """

    name: str
    runs: tuple[Sequence[Mapping[str, Any]], ...]


@dataclass(frozen=True)
class Difference:
    """Mean difference of an arm to the control, with its interval where there is one."""

    mean: float
    low: float | None = None
    high: float | None = None


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


def series_colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for every name, the same in every picture of the same arms; ``alone`` is always grey."""
    others = [name for name in names if name != "alone"]
    colours = {name: _CYCLE[index % len(_CYCLE)] for index, name in enumerate(others)}
    return {name: colours.get(name, _GREY) for name in names}


def similarity_heatmap(
    values: ArrayLike,
    *,
    metric: str = "similarity",
    clusters: Sequence[int] | None = None,
    hints: Sequence[int] = (),
    stages: Sequence[int] | None = None,
    title: str = "",
) -> Figure:
    """Similarity of every pair of layers, with clusters outlined and hint positions marked.

    Args:
        values: shape (layers, layers), in depth order; the scale runs from the smallest value, rounded down
            to a tenth, to 1 (or to the largest value, if that is more).
        metric: name of the metric, for the colour bar.
        clusters: cluster of every layer, from 0; None draws no borders.
        hints: chosen positions, counted from 1.
        stages: resolution stage of every layer, from 1; None draws none.
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
    _check_layers("clusters", clusters, layers)
    _check_layers("stages", stages, layers)
    _check_positions(hints, layers)

    # All lengths in inches, from the outside in.
    side = min(6.0, max(3.4, 0.105 * layers + 0.6))
    strip, gap = 0.17, 0.04
    left, right, bottom = 0.75, 1.05, 0.58 + (strip + gap if stages is not None else 0.0)
    top = 0.12 + (0.34 if title else 0.0) + (0.42 if hints else 0.0) + (strip + gap if clusters else 0.0)
    figure, place = _canvas(left + side + right, bottom + side + top)
    axes = place(left, bottom, side, side)

    low = min(math.floor(matrix.min() * 10) / 10, 0.9)
    image = axes.imshow(
        matrix, cmap="viridis", vmin=low, vmax=max(1.0, float(matrix.max())), interpolation="nearest"
    )
    ticks = _depth_ticks(layers)
    axes.set_xticks([tick - 1 for tick in ticks], [str(tick) for tick in ticks])
    axes.set_yticks([tick - 1 for tick in ticks], [str(tick) for tick in ticks])
    below = (strip + gap) * 72 if stages is not None else 0.0
    axes.tick_params(labelsize=_TEXT, colors=_INK, length=2.5, width=0.6)
    axes.tick_params(axis="x", pad=2 + below, length=0 if below else 2.5)
    axes.set_xlabel("layer position, in depth order", fontsize=_TEXT, color=_INK)
    axes.set_ylabel("layer position", fontsize=_TEXT, color=_INK)
    for spine in axes.spines.values():
        spine.set_visible(False)

    annotated = layers <= 10
    if annotated:
        middle = (low + image.norm.vmax) / 2 if image.norm.vmax is not None else 0.5
        for row in range(layers):
            for column in range(layers):
                value = matrix[row, column]
                colour = _INK if value > middle else "white"
                axes.text(
                    column, row, f"{value:.2f}", ha="center", va="center", fontsize=_TEXT - 1, color=colour
                )

    above = bottom + side + gap
    if clusters is not None:
        _outline_clusters(axes, clusters)
        letters = [_letter(cluster) for cluster in clusters]
        _strip(place(left, above, side, strip), clusters, letters, _cluster_colours(clusters))
        _beside(figure, left + side + 0.08, above + strip / 2, "clusters")
        above += strip + gap
    if stages is not None:
        _stage_strip(place(left, bottom - gap - strip, side, strip), stages)
    if hints:
        label = "hint" if len(hints) == 1 else "hints"
        header = place(left, above, side, 0.40)
        _mark_hints(header, hints, layers, inches=side)
        _beside(figure, left + side + 0.08, above + 0.26, f"{label} at")
        if not annotated:
            axes.plot(
                [hint - 1 for hint in hints],
                [hint - 1 for hint in hints],
                linestyle="none",
                marker="o",
                markersize=5,
                markerfacecolor="white",
                markeredgecolor=_INK,
                markeredgewidth=1.0,
            )

    bar_axes = place(left + side + 0.18, bottom, 0.16, side * 0.94)
    bar = figure.colorbar(image, cax=bar_axes)
    bar.set_label(metric, fontsize=_TEXT, color=_INK)
    bar.ax.tick_params(labelsize=_TEXT, colors=_INK, length=2.5, width=0.6)
    bar.outline.set_visible(False)
    if title:
        figure.text(
            (left + side / 2) / figure.get_figwidth(),
            1 - 0.10 / figure.get_figheight(),
            title,
            ha="center",
            va="top",
            fontsize=_TEXT + 2,
            color=_INK,
        )
    return figure


def position_map(
    rows: Mapping[str, Sequence[int]],
    layers: int,
    *,
    clusters: Mapping[str, Sequence[int]] | None = None,
    stages: Sequence[int] | None = None,
    title: str = "",
) -> Figure:
    """Where along the depth of the teacher each way of choosing puts its hints.

    Args:
        rows: chosen positions, counted from 1, by name; drawn from top to bottom.
        layers: number of layers of the teacher.
        clusters: for the rows that come from a clustering, the cluster of every layer, from 0.
        stages: resolution stage of every layer, from 1.
        title: a heading; empty for none.

    Raises:
        PursuhintError: there are no rows, or something does not fit ``layers``.
    """
    if not rows:
        raise PursuhintError("a map of positions needs at least one row")
    clusters = clusters or {}
    for name, positions in rows.items():
        _check_positions(positions, layers)
        _check_layers(f"clusters of {name}", clusters.get(name), layers)
    _check_layers("stages", stages, layers)

    height, strip = 0.44, 0.17
    left, right, width = 0.35 + 0.075 * max(len(name) for name in rows), 0.2, 6.2
    bottom = 0.52 + (strip + 0.05 if stages is not None else 0.0)
    top = 0.12 + (0.34 if title else 0.0)
    figure, place = _canvas(left + width + right, bottom + height * len(rows) + top)
    for index, (name, positions) in enumerate(rows.items()):
        y = bottom + height * (len(rows) - 1 - index)
        labels = clusters.get(name)
        axes = place(left, y + 0.02, width, strip * 0.8)
        if labels is None:
            _strip(axes, [0] * layers, [""] * layers, [_PALE] * layers)
        else:
            _strip(axes, labels, [_letter(c) for c in labels], _cluster_colours(labels), text=False)
        header = place(left, y + 0.02 + strip * 0.8, width, height - strip * 0.8 - 0.04)
        _mark_hints(header, positions, layers, inches=width, leader=False)
        figure.text(
            (left - 0.1) / figure.get_figwidth(),
            (y + 0.17) / figure.get_figheight(),
            name,
            ha="right",
            va="center",
            fontsize=_TEXT,
            color=_INK,
        )
    axis = place(left, bottom - 0.06, width, 0.04)
    axis.set_xlim(-0.5, layers - 0.5)
    axis.set_ylim(0, 1)
    axis.yaxis.set_major_locator(NullLocator())
    for spine in axis.spines.values():
        spine.set_visible(False)
    ticks = _depth_ticks(layers)
    axis.set_xticks([tick - 1 for tick in ticks], [str(tick) for tick in ticks])
    below = 0.0
    if stages is not None:
        _stage_strip(place(left, bottom - 0.06 - strip, width, strip), stages)
        below = strip * 72
    axis.tick_params(axis="x", labelsize=_TEXT, colors=_INK, length=0, pad=3 + below)
    axis.set_xlabel("layer position of the teacher, in depth order", fontsize=_TEXT, color=_INK)
    if title:
        figure.text(
            (left + width / 2) / figure.get_figwidth(),
            1 - 0.10 / figure.get_figheight(),
            title,
            ha="center",
            va="top",
            fontsize=_TEXT + 2,
            color=_INK,
        )
    return figure


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
    if not curves or not all(curves.values()):
        raise PursuhintError("inertia curves need at least one algorithm and one value of k each")
    figure, axes = _plain(5.2, 3.4, title)
    for index, (name, curve) in enumerate(curves.items()):
        ks = sorted(curve)
        axes.plot(
            ks,
            [curve[k] for k in ks],
            color=_CYCLE[(0, 5)[index]] if index < 2 else _CYCLE[index % len(_CYCLE)],
            linestyle=_DASHES[index % len(_DASHES)],
            marker=_MARKERS[index % len(_MARKERS)],
            markersize=5,
            markerfacecolor="white" if index else None,
            linewidth=1.5,
            label=name,
        )
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlabel("number of clusters k", fontsize=_TEXT, color=_INK)
    axes.set_ylabel("inertia (lower is tighter)", fontsize=_TEXT, color=_INK)
    if chosen is not None:
        axes.axvline(chosen, color=_GREY, linewidth=1.0, linestyle=(0, (2, 2)), zorder=0)
        axes.annotate(
            f"used: k = {chosen}",
            (chosen, 1),
            xycoords=("data", "axes fraction"),
            xytext=(4, -2),
            textcoords="offset points",
            va="top",
            fontsize=_TEXT - 1,
            color=_GREY,
        )
    _legend(axes)
    return figure


def training_curves(
    series: Sequence[Series],
    *,
    split: str = "test",
    colours: Mapping[str, str] | None = None,
    title: str = "",
) -> Figure:
    """Accuracy and loss by epoch.

    One run shows its training curve too (dashed). Of several seeds every one is drawn thinly and their mean
    boldly. The accuracy axis leaves out the first quarter of training, where every curve is far below what
    follows; the loss axis is logarithmic and holds everything.

    Args:
        series: the runs or arms.
        split: ``"test"`` or ``"val"``: whose accuracy and loss are shown.
        colours: colour by name of the series; the default is :func:`series_colours`.
        title: a heading; empty for none.

    Raises:
        PursuhintError: there is nothing to draw, or a run has no such accuracy.
    """
    if not series or not all(any(len(run) for run in entry.runs) for entry in series):
        raise PursuhintError("training curves need at least one run with at least one epoch")
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    accuracy, loss = figure.subplots(1, 2)
    alone = len(series) == 1 and len(series[0].runs) == 1
    palette = colours or series_colours([entry.name for entry in series])
    lowest: list[float] = []
    longest = 0
    for index, entry in enumerate(series):
        colour = palette[entry.name]
        dashes = "-" if alone else _DASHES[(index // len(_CYCLE) + index) % len(_DASHES)]
        for axes, kind in ((accuracy, "top1"), (loss, "loss")):
            curves = [_curve(run, f"{split}_{kind}", entry.name) for run in entry.runs if len(run)]
            if alone:
                epochs, values = _curve(entry.runs[0], f"train_{kind}", entry.name)
                if values:
                    axes.plot(
                        epochs,
                        values,
                        color=_ORANGE,
                        linewidth=1.4,
                        linestyle=_DASHES[1],
                        label="training",
                        marker="s" if len(values) == 1 else None,
                        markersize=5,
                    )
                    if kind == "top1":
                        lowest.append(values[len(values) // 4])
            if len(curves) > 1:
                for epochs, values in curves:
                    axes.plot(epochs, values, color=colour, linewidth=0.6, alpha=0.35)
            epochs, mean = _mean_curve(curves)
            axes.plot(
                epochs,
                mean,
                color=colour,
                linewidth=1.7,
                linestyle=dashes,
                label=split if alone else entry.name,
                marker="o" if len(mean) == 1 else None,
                markersize=5,
            )
            longest = max(longest, len(mean))
            if kind == "top1":
                lowest += [values[len(values) // 4] for _, values in curves]
    accuracy.set_ylabel("accuracy (top-1, %)", fontsize=_TEXT, color=_INK)
    loss.set_ylabel("loss" if alone else f"{split} loss (cross-entropy)", fontsize=_TEXT, color=_INK)
    if longest >= 8:
        accuracy.set_ylim(bottom=max(0.0, 5 * math.floor((min(lowest) - 2) / 5)))
    accuracy.set_ylim(top=min(accuracy.get_ylim()[1], 101.0))
    losses = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in loss.get_lines()])
    if losses.min() > 0 and losses.max() > 3 * losses.min():
        loss.set_yscale("log")
        _readable_log(loss)
    for axes in (accuracy, loss):
        _tidy(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch", fontsize=_TEXT, color=_INK)
    handles, labels = accuracy.get_legend_handles_labels()
    figure.legend(
        handles,
        labels,
        loc="outside lower center",
        ncols=min(len(labels), 6),
        fontsize=_TEXT,
        frameon=False,
        handlelength=2.6,
    )
    if title:
        figure.suptitle(title, fontsize=_TEXT + 2, color=_INK)
    return figure


def comparison_plot(
    arms: Mapping[str, Sequence[float]],
    *,
    control: str,
    differences: Mapping[str, Difference],
    colours: Mapping[str, str] | None = None,
    measure: str = "test accuracy (top-1, %)",
    title: str = "",
) -> Figure:
    """Accuracy of every seed and arm beside the paired differences to the control.

    On the left every dot is one seed, thin lines join the same seed, and a bar marks the mean. On the right
    are the mean differences and their intervals; an interval that does not touch zero is drawn filled.

    Args:
        arms: results by arm, one a seed, in the same order of seeds; drawn from top to bottom.
        control: the arm that the differences refer to.
        differences: difference to the control, by arm; arms without one are left empty on the right.
        colours: colour by arm; the default is :func:`series_colours`.
        measure: what the results are.
        title: a heading; empty for none.

    Raises:
        PursuhintError: there are no arms, one has no results, or they have different numbers of them.
    """
    counts = {name: len(values) for name, values in arms.items()}
    if not counts or 0 in counts.values() or len(set(counts.values())) > 1:
        raise PursuhintError(f"a comparison plot needs the same number of seeds in every arm, got {counts}")
    seeds = next(iter(counts.values()))
    names = list(arms)
    palette = colours or series_colours(names)
    figure = Figure(figsize=(9.2, 1.25 + 0.46 * len(names) + (0.3 if title else 0.0)), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2, width_ratios=(1.0, 1.05), sharey=True)
    ys = np.arange(len(names), dtype=float)

    values = np.array([arms[name] for name in names], dtype=float)
    # A small step down for every seed: accuracies on a small test set are often exactly equal.
    steps = np.linspace(-0.15, 0.15, seeds) if seeds > 1 else np.zeros(1)
    if 1 < seeds <= 10:
        for column in range(seeds):
            left.plot(values[:, column], ys + steps[column], color="#BBBBBB", linewidth=0.7, zorder=1)
    for row, name in enumerate(names):
        left.plot(
            values[row],
            ys[row] + steps,
            linestyle="none",
            marker=_MARKERS[row % len(_MARKERS)],
            markersize=6,
            markerfacecolor=palette[name],
            markeredgecolor="white",
            markeredgewidth=0.7,
            zorder=3,
        )
        mean = float(values[row].mean())
        left.plot([mean, mean], [ys[row] - 0.3, ys[row] + 0.3], color=_INK, linewidth=2.0, zorder=2)
    left.set_xlabel(measure, fontsize=_TEXT, color=_INK)
    left.set_yticks(ys, names)
    left.set_ylim(len(names) - 0.4, -0.6)

    right.axvline(0, color=_GREY, linewidth=1.0, zorder=1)
    texts: list[tuple[float, str]] = []
    for row, name in enumerate(names):
        if name == control:
            texts.append((ys[row], "control"))
            continue
        difference = differences.get(name)
        if difference is None:
            continue
        interval = difference.low is not None and difference.high is not None
        text = f"{difference.mean:+.2f}"
        decided = False
        if difference.low is not None and difference.high is not None:
            right.plot(
                [difference.low, difference.high],
                [ys[row], ys[row]],
                color=palette[name],
                linewidth=2.2,
                zorder=2,
                solid_capstyle="butt",
            )
            decided = difference.low > 0 or difference.high < 0
            text += f"  [{difference.low:+.2f}, {difference.high:+.2f}]"
        right.plot(
            difference.mean,
            ys[row],
            linestyle="none",
            marker=_MARKERS[row % len(_MARKERS)],
            markersize=7,
            markerfacecolor=palette[name] if decided else "white",
            markeredgecolor=palette[name],
            markeredgewidth=1.5,
            zorder=3,
        )
        texts.append((ys[row], text if interval else f"{text}  no interval"))
    limit = max(abs(edge) for edge in right.get_xlim())
    right.set_xlim(-limit, limit)
    right.set_xlabel(f"difference to {control} (points)", fontsize=_TEXT, color=_INK)
    for y, text in texts:
        right.annotate(
            text,
            (1.02, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=_TEXT - 0.5,
            color=_INK,
            family="DejaVu Sans Mono",
        )
    for axes in (left, right):
        _tidy(axes)
        axes.grid(axis="x", color=_PALE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    if title:
        figure.suptitle(title, fontsize=_TEXT + 2, color=_INK)
    return figure


# ---------------------------------------------------------------------------------------------- parts


def _canvas(width: float, height: float) -> tuple[Figure, Any]:
    """A figure and a function that places axes on it, all in inches from the lower left corner."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)

    def place(x: float, y: float, w: float, h: float) -> Axes:
        return figure.add_axes((x / width, y / height, w / width, h / height))

    return figure, place


def _plain(width: float, height: float, title: str) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    _tidy(axes)
    if title:
        axes.set_title(title, fontsize=_TEXT + 2, color=_INK)
    return figure, axes


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(_GREY)
        axes.spines[side].set_linewidth(0.7)
    axes.tick_params(labelsize=_TEXT, colors=_INK, length=3, width=0.7)


def _legend(axes: Axes) -> None:
    axes.legend(fontsize=_TEXT, frameon=False, handlelength=3.0)


def _depth_ticks(layers: int) -> list[int]:
    """Positions to label: all of up to 12 layers; of more, 1 and the multiples of a step."""
    if layers <= 12:
        return list(range(1, layers + 1))
    step = next((step for step in (2, 5, 10, 20, 50, 100) if layers / step <= 12), 200)
    return [1, *range(step, layers + 1, step)] if step > 2 else list(range(1, layers + 1, 2))


def _runs(values: Sequence[int]) -> list[tuple[int, int]]:
    """Maximal stretches of equal neighbours as (first, last)."""
    starts = [0] + [i for i in range(1, len(values)) if values[i] != values[i - 1]]
    ends = [start - 1 for start in starts[1:]] + [len(values) - 1]
    return list(zip(starts, ends, strict=True))


def _letter(cluster: int) -> str:
    """Name of a cluster: A, B, ..., Z, then numbers; positions are numbers already."""
    return chr(ord("A") + cluster) if cluster < 26 else str(cluster + 1)


def _cluster_colours(clusters: Sequence[int]) -> list[str]:
    return [_CYCLE[cluster % len(_CYCLE)] for cluster in clusters]


def _outline_clusters(axes: Axes, clusters: Sequence[int]) -> None:
    """Frame every cluster's block; a cluster in several stretches has frames off the diagonal too."""
    stretches = _runs(clusters)
    halo = [patheffects.Stroke(linewidth=2.6, foreground=_INK), patheffects.Normal()]
    for first, last in stretches:
        for other, other_last in stretches:
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


def _strip(
    axes: Axes,
    values: Sequence[int],
    names: Sequence[str],
    colours: Sequence[str],
    *,
    text: bool = True,
) -> None:
    """A band along the depth of the network, one stretch of colour for every run of equal values."""
    layers = len(values)
    axes.imshow(
        np.arange(layers)[None],
        cmap=ListedColormap(list(colours)),
        aspect="auto",
        interpolation="nearest",
        vmin=-0.5,
        vmax=layers - 0.5,
    )
    axes.set_axis_off()
    inches = axes.get_position().width * axes.figure.get_figwidth()  # type: ignore[union-attr]
    for first, last in _runs(values):
        if first:
            axes.axvline(first - 0.5, color="white", linewidth=1.2)
        room = (last - first + 1) / layers * inches
        name = names[first]
        if text and room < 0.075 * len(name) + 0.04:
            name = name.split()[-1]  # "stage 3" becomes "3"
        if text and name and room >= 0.075 * len(name) + 0.02:
            ink = "white" if colours[first] in _DARK else _INK
            axes.text(
                (first + last) / 2, 0, name, ha="center", va="center_baseline", fontsize=_TEXT - 1, color=ink
            )


def _stage_strip(axes: Axes, stages: Sequence[int]) -> None:
    greys = {stage: ("#CFCFCF", "#EDEDED")[index % 2] for index, stage in enumerate(sorted(set(stages)))}
    _strip(axes, stages, [f"stage {stage}" for stage in stages], [greys[s] for s in stages])


def _mark_hints(axes: Axes, hints: Sequence[int], layers: int, *, inches: float, leader: bool = True) -> None:
    """Triangles that point down at the chosen positions, with the positions written above them.

    Labels that would overlap are moved apart sideways and joined to their triangle.
    """
    axes.set_xlim(-0.5, layers - 0.5)
    axes.set_ylim(0, 1)
    axes.set_axis_off()
    ordered = sorted(set(hints))
    spots = [float(hint - 1) for hint in ordered]
    width = 0.075 * len(str(max(ordered, default=1)))
    places = _spread(spots, (width + 0.05) / inches * layers, -0.5, layers - 0.5)
    triangle, text = (0.16, 0.52) if leader else (0.24, 0.48)
    axes.plot(
        spots,
        [triangle] * len(spots),
        linestyle="none",
        marker="v",
        markersize=min(6.0, 60 * inches / layers),
        color=_INK,
    )
    for hint, spot, place in zip(ordered, spots, places, strict=True):
        if abs(place - spot) * inches / layers > 0.5 * width:
            axes.plot([spot, place], [triangle + 0.1, text], color=_GREY, linewidth=0.6)
        axes.text(
            place, text, str(hint), ha="center", va="bottom", fontsize=_TEXT, color=_INK, fontweight="bold"
        )


def _spread(spots: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The places nearest to sorted ``spots`` (least squares) that are ``gap`` apart and inside [low, high].

    Less one gap for every label to the left, the places need only be in order, which makes this an isotonic
    regression: neighbours that are out of order are pooled at their mean.
    """
    if not spots:
        return []
    gap = min(gap, (high - low) / len(spots))
    pools: list[tuple[float, int]] = []
    for index, spot in enumerate(spots):
        mean, size = spot - index * gap, 1
        while pools and pools[-1][0] > mean:
            before, count = pools.pop()
            mean, size = (before * count + mean * size) / (count + size), count + size
        pools.append((mean, size))
    first, last = low + gap / 2, high - gap / 2 - (len(spots) - 1) * gap
    fitted = [min(max(mean, first), last) for mean, size in pools for _ in range(size)]
    return [place + index * gap for index, place in enumerate(fitted)]


def _beside(figure: Figure, x: float, y: float, text: str) -> None:
    figure.text(
        x / figure.get_figwidth(),
        y / figure.get_figheight(),
        text,
        ha="left",
        va="center",
        fontsize=_TEXT - 1,
        color=_GREY,
    )


def _curve(run: Sequence[Mapping[str, Any]], key: str, name: str) -> tuple[list[float], list[float]]:
    points = [(float(line["epoch"]), float(line[key])) for line in run if line.get(key) is not None]
    if not points and not key.startswith("train_"):
        raise PursuhintError(f"the metrics of {name} have no {key}")
    return [epoch for epoch, _ in points], [value for _, value in points]


def _mean_curve(
    curves: Sequence[tuple[list[float], list[float]]],
) -> tuple[list[float], NDArray[np.float64]]:
    """Mean over runs of the epochs that all of them have."""
    shortest = min(len(values) for _, values in curves)
    epochs = curves[0][0][:shortest]
    return epochs, np.mean([values[:shortest] for _, values in curves], axis=0)


def _readable_log(axes: Axes) -> None:
    """Plain numbers at 1, 2 and 5 times powers of ten on a logarithmic axis."""
    low, high = axes.get_ylim()
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    wide = math.log10(high / low) > 2.5
    marks = [factor * 10.0**e for e in exponents for factor in ((1,) if wide else (1, 2, 5))]
    axes.yaxis.set_major_locator(FixedLocator([mark for mark in marks if low <= mark <= high]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _check_layers(what: str, values: Sequence[int] | None, layers: int) -> None:
    if values is not None and len(values) != layers:
        raise PursuhintError(f"{layers} layers but {len(values)} {what}")


def _check_positions(positions: Sequence[int], layers: int) -> None:
    for position in positions:
        if not 1 <= position <= layers:
            raise PursuhintError(f"hint position {position} is not one of the {layers} layers")
