"""Pictures of how layers group, and of two networks side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize, TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator, NullLocator
from numpy.typing import ArrayLike, NDArray

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import (
    CYCLE,
    GRAY,
    INK,
    TEXT,
    canvas,
    check_layers,
    check_positions,
    cluster_letter,
    depth_ticks,
    spread,
    stretches,
    tidy,
    write_title,
)

__all__ = ["dendrogram", "teacher_student_map"]

_ROW = 0.14  # inches that a label of a leaf needs
_CROWDED = 60  # leaves, beyond which not all are labelled


@dataclass(frozen=True)
class _Node:
    """A group of layers in a tree."""

    layers: tuple[int, ...]
    height: float
    children: tuple[_Node, ...] = ()

    @property
    def depth(self) -> float:
        """Mean index of its layers."""
        return sum(self.layers) / len(self.layers)


def dendrogram(
    tree: ArrayLike,
    *,
    clusters: Sequence[int] | None = None,
    hints: Sequence[int] = (),
    positions: Sequence[int] | None = None,
    names: Sequence[str] | None = None,
    measure: str = "distance at which groups are joined",
    title: str = "",
) -> Figure:
    """Which groups of layers are joined, and at which distance.

    Every leaf is a layer. Of two groups that are joined, the shallower one stands above, so leaves follow the
    depth of the network where the tree allows it. Branches inside a cluster have its colour and letter.

    Args:
        tree: (layers - 1, 4), as from `pursuhint.clustering.linkage_tree`.
        clusters: cluster of every layer, from 0; None colours nothing.
        hints: chosen positions, counted from 1, printed bold.
        positions: position of every layer; the default counts them from 1.
        names: name of every layer, written beside its position when there is room for all; None writes none.
        measure: what the distance is.
        title: a heading; empty for none.

    Raises:
        PursuhintError: ``tree`` is not a tree of layers, or the other arguments do not fit it.
    """
    steps = np.asarray(tree, dtype=float)
    if steps.ndim != 2 or steps.shape[1] != 4 or not len(steps) or not np.isfinite(steps).all():
        raise PursuhintError(f"a tree of layers has shape (layers - 1, 4), got {steps.shape}")
    layers = len(steps) + 1
    check_layers("clusters", clusters, layers)
    check_layers("positions", positions, layers)
    check_layers("names", names, layers)
    numbers = list(range(1, layers + 1) if positions is None else positions)
    check_positions(hints, numbers)
    root = _root(steps)
    order = _leaves(root)
    crowded = layers > _CROWDED

    texts = [str(number) for number in numbers]
    if names is not None and not crowded:
        texts = [f"{name}  {text}" for name, text in zip(names, texts)]
    left = 0.30 + 0.068 * max(map(len, texts)) + (0.24 if clusters is not None else 0.0)
    width, bottom, top = 4.6, 0.52, 0.10 + (0.34 if title else 0.0)
    height = max(1.0, (0.07 if crowded else _ROW) * layers)
    figure, place = canvas(left + width + 0.25, bottom + height + top)
    axes = place(left, bottom, width, height)
    rows = {layer: row for row, layer in enumerate(order)}
    _draw_branches(axes, root, rows, clusters)
    axes.set_ylim(layers - 0.5, -0.5)
    axes.set_xlim(0, root.height * 1.03 or 1.0)
    axes.yaxis.set_major_locator(NullLocator())
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    tidy(axes)
    axes.spines["left"].set_visible(False)
    axes.set_xlabel(measure, fontsize=TEXT, color=INK)

    indent = 0.0
    if clusters is not None:
        _write_clusters(axes, [clusters[layer] for layer in order], inches=width)
        indent = 0.24
    chosen = {numbers.index(hint) for hint in hints}
    shown = [
        layer for layer in order if not crowded or layer in chosen or _is_edge(order, rows[layer], clusters)
    ]
    spots = [float(rows[layer]) for layer in shown]
    for layer, spot in zip(shown, spread(spots, _ROW / height * layers, -0.5, layers - 0.5)):
        axes.text(
            -(0.06 + indent) / width,
            1 - (spot + 0.5) / layers,
            texts[layer],
            transform=axes.transAxes,
            ha="right",
            va="center",
            fontsize=TEXT - 1,
            color=INK,
            fontweight="bold" if layer in chosen else "normal",
        )
    if title:
        write_title(figure, left + width / 2, title)
    return figure


def _root(steps: NDArray[np.float64]) -> _Node:
    layers = len(steps) + 1
    nodes = [_Node((layer,), 0.0) for layer in range(layers)]
    for first, second, height, _ in steps:
        pair = [int(first), int(second)]
        if not all(0 <= index < len(nodes) for index in pair):
            raise PursuhintError(f"the tree joins group {max(pair)} before it exists")
        children = sorted((nodes[index] for index in pair), key=lambda node: node.depth)
        together = tuple(sorted(layer for child in children for layer in child.layers))
        nodes.append(_Node(together, float(height), tuple(children)))
    if nodes[-1].layers != tuple(range(layers)):
        raise PursuhintError("the tree does not join every layer exactly once")
    return nodes[-1]


def _leaves(root: _Node) -> list[int]:
    """Layers from top to bottom. Without recursion: a tree may be as deep as there are layers."""
    order, waiting = [], [root]
    while waiting:
        node = waiting.pop()
        if node.children:
            waiting.extend(reversed(node.children))
        else:
            order.append(node.layers[0])
    return order


def _draw_branches(axes: Axes, root: _Node, rows: dict[int, int], clusters: Sequence[int] | None) -> None:
    spots: dict[tuple[int, ...], float] = {}
    inner, waiting = [], [root]
    while waiting:
        node = waiting.pop()
        if node.children:
            inner.append(node)
            waiting.extend(node.children)
        else:
            spots[node.layers] = float(rows[node.layers[0]])
    for node in reversed(inner):  # children before parents
        above, below = (spots[child.layers] for child in node.children)
        spots[node.layers] = (above + below) / 2
        groups = {clusters[layer] for layer in node.layers} if clusters is not None else set()
        color = CYCLE[groups.pop() % len(CYCLE)] if len(groups) == 1 else GRAY
        first, second = (child.height for child in node.children)
        axes.plot(
            [first, node.height, node.height, second],
            [above, above, below, below],
            color=color,
            linewidth=1.3 if color != GRAY else 1.0,
            solid_joinstyle="miter",
            clip_on=False,
        )


def _write_clusters(axes: Axes, labels: Sequence[int], *, inches: float) -> None:
    """A bar and a letter for every cluster, left of the leaves."""
    layers = len(labels)
    for first, last in stretches(labels):
        color = CYCLE[labels[first] % len(CYCLE)]
        span = [1 - (edge + 0.5) / layers for edge in (first - 0.36, last + 0.36)]
        x = -0.07 / inches
        axes.plot([x, x], span, transform=axes.transAxes, color=color, linewidth=3, clip_on=False)
        axes.text(
            -0.12 / inches,
            sum(span) / 2,
            cluster_letter(labels[first]),
            transform=axes.transAxes,
            ha="right",
            va="center",
            fontsize=TEXT - 1,
            color=INK,
        )


def _is_edge(order: Sequence[int], row: int, clusters: Sequence[int] | None) -> bool:
    """Whether a leaf begins or ends a stretch of one cluster."""
    if clusters is None or row in (0, len(order) - 1):
        return True
    here = clusters[order[row]]
    return clusters[order[row - 1]] != here or clusters[order[row + 1]] != here


def teacher_student_map(
    before: ArrayLike,
    after: ArrayLike | None = None,
    *,
    metric: str = "similarity",
    hints: Sequence[tuple[int, int]] = (),
    teacher: str = "teacher",
    student: str = "student",
    labels: tuple[str, str] = ("before distillation", "after distillation"),
    title: str = "",
) -> Figure:
    """Similarity of every teacher layer with every student layer, before and after distillation.

    Both maps share a scale; a third one shows the difference. Circles mark the pairs of a hint.

    Args:
        before: shape (teacher layers, student layers), in depth order.
        after: similarities after distillation; None draws one map alone.
        metric: name of the metric, for the colour bar.
        hints: pairs of positions, teacher first, counted from 1.
        teacher: name of the teacher, for its axis.
        student: name of the student, for its axis.
        labels: headings of the two maps; the first is left out when there is one.
        title: a heading; empty for none.

    Raises:
        PursuhintError: a map is not a matrix of finite numbers, the two have different shapes, or a hint lies
            outside.
    """
    maps = [_matrix(values) for values in (before, after) if values is not None]
    rows, columns = maps[0].shape
    if any(matrix.shape != (rows, columns) for matrix in maps):
        raise PursuhintError(f"maps of different shapes: {maps[0].shape} before, {maps[1].shape} after")
    check_positions([pair[0] for pair in hints], range(1, rows + 1))
    check_positions([pair[1] for pair in hints], range(1, columns + 1))

    side = 4.2 if len(maps) == 1 else 1.95
    width = min(side, max(1.3, 0.16 * columns))
    height = min(6.0, max(1.5, 0.075 * rows + 0.8))
    left, bottom, top = 0.75, 0.58, 0.34 + (0.34 if title else 0.0)
    gap, bar = 0.18, 0.16
    scale = left + len(maps) * (width + gap)
    total = scale + bar + 0.62 + (0.35 + width + gap + bar + 0.62 if len(maps) == 2 else 0.0)
    figure, place = canvas(max(3.0, total), bottom + height + top)
    together = np.concatenate(maps)
    low = min(math.floor(together.min() * 10) / 10, 0.9)
    norm = Normalize(low, max(1.0, float(together.max())))
    headings = labels if len(maps) == 2 else ("",)

    def draw(matrix: NDArray[np.float64], x: float, heading: str, **look: object) -> tuple[Axes, AxesImage]:
        axes = place(x, bottom, width, height)
        image = axes.imshow(matrix, aspect="auto", interpolation="nearest", **look)
        ticks = depth_ticks(range(1, columns + 1))
        if len(ticks) * 0.2 > width:
            ticks = {place: text for place, text in ticks.items() if place in (0, columns - 1)}
        axes.set_xticks(list(ticks), list(ticks.values()))
        axes.set_yticks([])
        axes.tick_params(labelsize=TEXT, colors=INK, length=2.5, width=0.6)
        axes.set_xlabel(student, fontsize=TEXT, color=INK)
        axes.set_title(heading, fontsize=TEXT, color=INK, pad=5)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.plot(
            [pair[1] - 1 for pair in hints],
            [pair[0] - 1 for pair in hints],
            linestyle="none",
            marker="o",
            markersize=6,
            markerfacecolor="white",
            markeredgecolor=INK,
            markeredgewidth=1.1,
            clip_on=False,
        )
        return axes, image

    def scale_bar(image: AxesImage, x: float, text: str) -> None:
        drawn = figure.colorbar(image, cax=place(x, bottom, bar, height))
        drawn.set_label(text, fontsize=TEXT, color=INK)
        drawn.ax.tick_params(labelsize=TEXT, colors=INK, length=2.5, width=0.6)
        drawn.outline.set_visible(False)

    for index, (matrix, heading) in enumerate(zip(maps, headings)):
        axes, image = draw(matrix, left + index * (width + gap), heading, cmap="viridis", norm=norm)
        if index == 0:
            ticks = depth_ticks(range(1, rows + 1))
            axes.set_yticks(list(ticks), list(ticks.values()))
            axes.set_ylabel(teacher, fontsize=TEXT, color=INK)
    scale_bar(image, scale, metric)
    if len(maps) == 2:
        change = maps[1] - maps[0]
        limit = max(float(np.abs(change).max()), 0.01)
        x = scale + bar + 0.62 + 0.35
        look = {"cmap": "PuOr_r", "norm": TwoSlopeNorm(0, -limit, limit)}
        scale_bar(draw(change, x, "change", **look)[1], x + width + gap, "difference")
    if title:
        write_title(figure, figure.get_figwidth() / 2, title)
    return figure


def _matrix(values: ArrayLike) -> NDArray[np.float64]:
    matrix = np.asarray(values, dtype=float)
    if matrix.ndim != 2 or not matrix.size:
        raise PursuhintError(f"a map of two networks is a matrix, got shape {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise PursuhintError("the map of two networks holds a value that is not finite")
    return matrix
