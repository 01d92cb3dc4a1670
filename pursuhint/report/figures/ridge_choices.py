"""Hint positions by ridge CCA, from CCA to CKA."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import (
    CYCLE,
    GRAY,
    INK,
    PALE,
    TEXT,
    canvas,
    check_layers,
    check_positions,
    depth_ticks,
    stretches,
    tidy,
)
from pursuhint.similarity.ridge import RIDGE

__all__: list[str] = []


def ridge_choices(
    ridges: Sequence[float],
    chosen: Sequence[Sequence[int]],
    cka: Sequence[int],
    *,
    positions: Sequence[int],
    stages: Sequence[int] | None = None,
) -> Figure:
    """The positions of hints over the ridge, one column for each and one for CKA.

    Args:
        ridges: ascending.
        chosen: positions of hints with each of them.
        cka: those by CKA.
        positions: of all layers, in depth order.
        stages: of all layers; drawn as bands.

    Raises:
        PursuhintError: there is no ridge, or a choice is missing or names a layer that is not there.
    """
    if not ridges or len(ridges) != len(chosen):
        raise PursuhintError(f"ridges need a choice each, got {len(ridges)} ridges and {len(chosen)} choices")
    columns = [*chosen, cka]
    for hints in columns:
        check_positions(hints, positions)
    check_layers("stages", stages, len(positions))
    height = min(4.5, max(1.6, 0.16 * len(positions)))
    figure, place = canvas(7.4, height + 0.85)
    axes = place(0.6, 0.6, 6.6, height)
    tidy(axes)
    for number, (first, last) in enumerate(stretches(stages or [0] * len(positions))):
        if number % 2 == 0 and stages is not None:
            axes.axhspan(first - 0.5, last + 0.5, color=PALE, alpha=0.6, linewidth=0, zorder=0)
    places = {position: index for index, position in enumerate(positions)}
    for column, hints in enumerate(columns):
        axes.plot(
            [column] * len(hints),
            [places[hint] for hint in hints],
            "o",
            color=CYCLE[0],
            markersize=5,
            zorder=3,
        )
    if RIDGE in ridges:
        axes.axvline(list(ridges).index(RIDGE), color=GRAY, linewidth=1.0, linestyle=(0, (2, 2)), zorder=1)
    axes.set_xlim(-0.5, len(columns) - 0.5)
    axes.set_ylim(len(positions) - 0.5, -0.5)
    names = ["CCA" if ridge == 0 else f"{ridge:g}" for ridge in ridges]
    axes.set_xticks(range(len(columns)), [*names, "CKA"])
    ticks = depth_ticks(positions)
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.set_xlabel("ridge, as a share of the variance of a layer", fontsize=TEXT, color=INK)
    axes.set_ylabel("layer", fontsize=TEXT, color=INK)
    return figure
