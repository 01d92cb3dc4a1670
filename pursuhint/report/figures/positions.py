"""Where along the depth of the teacher each way of choosing puts its hints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import (
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
    write_title,
)

__all__ = ["position_map"]


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
            draw_strip(axes, labels, [cluster_letter(c) for c in labels], cluster_colors(labels), text=False)
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
        write_title(figure, left + width / 2, title)
    return figure
