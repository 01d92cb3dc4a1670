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
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from pursuhint.errors import PursuhintError
from pursuhint.files import atomic_path
from pursuhint.report.drawing import (
    _ORANGE,
    CYCLE,
    DASHES,
    GREY,
    INK,
    MARKERS,
    PALE,
    TEXT,
    canvas,
    check_layers,
    check_positions,
    cluster_colours,
    cluster_letter,
    depth_ticks,
    draw_stages,
    draw_strip,
    legend_below,
    mark_hints,
    marker_size,
    outline_clusters,
    plain_axes,
    tidy,
    write_beside,
)

__all__ = [
    "Difference",
    "Series",
    "comparison_plot",
    "inertia_curves",
    "position_map",
    "save_figure",
    "series_colours",
    "silhouette_curves",
    "similarity_heatmap",
    "training_curves",
]

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
    colours = {name: CYCLE[index % len(CYCLE)] for index, name in enumerate(others)}
    return {name: colours.get(name, GREY) for name in names}


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
                colour = INK if value > middle else "white"
                axes.text(
                    column, row, f"{value:.2f}", ha="center", va="center", fontsize=TEXT - 1, color=colour
                )

    above = bottom + side + gap
    if clusters is not None:
        outline_clusters(axes, clusters)
        letters = [cluster_letter(cluster) for cluster in clusters]
        draw_strip(place(left, above, side, strip), clusters, letters, cluster_colours(clusters))
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
        figure.text(
            (left + side / 2) / figure.get_figwidth(),
            1 - 0.10 / figure.get_figheight(),
            title,
            ha="center",
            va="top",
            fontsize=TEXT + 2,
            color=INK,
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
        check_positions(positions, range(1, layers + 1))
        check_layers(f"clusters of {name}", clusters.get(name), layers)
    check_layers("stages", stages, layers)

    height, strip = 0.44, 0.17
    left, right, width = 0.35 + 0.075 * max(len(name) for name in rows), 0.2, 6.2
    bottom = 0.52 + (strip + 0.05 if stages is not None else 0.0)
    top = 0.12 + (0.34 if title else 0.0)
    figure, place = canvas(left + width + right, bottom + height * len(rows) + top)
    for index, (name, positions) in enumerate(rows.items()):
        y = bottom + height * (len(rows) - 1 - index)
        labels = clusters.get(name)
        axes = place(left, y + 0.02, width, strip * 0.8)
        if labels is None:
            draw_strip(axes, [0] * layers, [""] * layers, [PALE] * layers)
        else:
            draw_strip(axes, labels, [cluster_letter(c) for c in labels], cluster_colours(labels), text=False)
        header = place(left, y + 0.02 + strip * 0.8, width, height - strip * 0.8 - 0.04)
        marks = {position - 1: position for position in positions}
        mark_hints(header, marks, layers, inches=width, leader=False)
        figure.text(
            (left - 0.1) / figure.get_figwidth(),
            (y + 0.17) / figure.get_figheight(),
            name,
            ha="right",
            va="center",
            fontsize=TEXT,
            color=INK,
        )
    axis = place(left, bottom - 0.06, width, 0.04)
    axis.set_xlim(-0.5, layers - 0.5)
    axis.set_ylim(0, 1)
    axis.yaxis.set_major_locator(NullLocator())
    for spine in axis.spines.values():
        spine.set_visible(False)
    ticks = depth_ticks(range(1, layers + 1))
    axis.set_xticks(list(ticks), list(ticks.values()))
    below = 0.0
    if stages is not None:
        draw_stages(place(left, bottom - 0.06 - strip, width, strip), stages)
        below = strip * 72
    axis.tick_params(axis="x", labelsize=TEXT, colors=INK, length=0, pad=3 + below)
    axis.set_xlabel("layer position of the teacher, in depth order", fontsize=TEXT, color=INK)
    if title:
        figure.text(
            (left + width / 2) / figure.get_figwidth(),
            1 - 0.10 / figure.get_figheight(),
            title,
            ha="center",
            va="top",
            fontsize=TEXT + 2,
            color=INK,
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
    figure, axes = _curves_over_k(curves, chosen, "inertia (lower is tighter)", title)
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
    return _curves_over_k(curves, chosen, "mean silhouette (higher is clearer)", title)[0]


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
        dashes = "-" if alone else DASHES[(index // len(CYCLE) + index) % len(DASHES)]
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
                        linestyle=DASHES[1],
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
    accuracy.set_ylabel("accuracy (top-1, %)", fontsize=TEXT, color=INK)
    loss.set_ylabel("loss" if alone else f"{split} loss (cross-entropy)", fontsize=TEXT, color=INK)
    if longest >= 8:
        accuracy.set_ylim(bottom=max(0.0, 5 * math.floor((min(lowest) - 2) / 5)))
    accuracy.set_ylim(top=min(accuracy.get_ylim()[1], 101.0))
    losses = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in loss.get_lines()])
    if losses.min() > 0 and losses.max() > 3 * losses.min():
        loss.set_yscale("log")
        _readable_log(loss)
    for axes in (accuracy, loss):
        tidy(axes)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        axes.set_xlabel("epoch", fontsize=TEXT, color=INK)
    legend_below(figure, accuracy, inches=8.2)
    if title:
        figure.suptitle(title, fontsize=TEXT + 2, color=INK)
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
            marker=MARKERS[row % len(MARKERS)],
            markersize=6,
            markerfacecolor=palette[name],
            markeredgecolor="white",
            markeredgewidth=0.7,
            zorder=3,
        )
        mean = float(values[row].mean())
        left.plot([mean, mean], [ys[row] - 0.3, ys[row] + 0.3], color=INK, linewidth=2.0, zorder=2)
    left.set_xlabel(measure, fontsize=TEXT, color=INK)
    left.set_yticks(ys, names)
    left.set_ylim(len(names) - 0.4, -0.6)

    right.axvline(0, color=GREY, linewidth=1.0, zorder=1)
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
            marker=MARKERS[row % len(MARKERS)],
            markersize=7,
            markerfacecolor=palette[name] if decided else "white",
            markeredgecolor=palette[name],
            markeredgewidth=1.5,
            zorder=3,
        )
        texts.append((ys[row], text if interval else f"{text}  no interval"))
    limit = max(abs(edge) for edge in right.get_xlim())
    right.set_xlim(-limit, limit)
    right.set_xlabel(f"difference to {control} (points)", fontsize=TEXT, color=INK)
    for y, text in texts:
        right.annotate(
            text,
            (1.02, y),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=TEXT - 0.5,
            color=INK,
            family="DejaVu Sans Mono",
        )
    for axes in (left, right):
        tidy(axes)
        axes.grid(axis="x", color=PALE, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.xaxis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10]))
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    if title:
        figure.suptitle(title, fontsize=TEXT + 2, color=INK)
    return figure


def _curves_over_k(
    curves: Mapping[str, Mapping[int, float]], chosen: int | None, measure: str, title: str
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
        axes.axvline(chosen, color=GREY, linewidth=1.0, linestyle=(0, (2, 2)), zorder=0)
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
            color=GREY,
        )
    legend_below(figure, axes, inches=5.0)
    return figure, axes


def _draw_frequencies(axes: Axes, frequencies: Sequence[float], chosen: Sequence[int]) -> None:
    """How often every layer was chosen, a bar a row; those of the chosen layers are dark."""
    layers = len(frequencies)
    colours = [CYCLE[0] if layer in chosen else "#B7B7B7" for layer in range(layers)]
    axes.barh(range(layers), frequencies, height=0.86, color=colours, linewidth=0)
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
