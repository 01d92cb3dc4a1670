"""Accuracy with a single hint at every layer, and where each arm has its own hints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pursuhint.errors import PursuhintError
from pursuhint.report.figures.drawing import CYCLE, DASHES, GRAY, INK, MARKERS, PALE, TEXT, plain_axes, tidy

__all__ = ["position_landscape"]

_ROW = 0.21  # inches of an arm


@dataclass(frozen=True)
class Landscape:
    """A curve of `position_landscapes`.

    Attributes:
        layers: results of every seed by the position of a single hint.
        arms: positions of other arms, by arm.
        baseline: accuracy without hints, drawn as a line; None for none.

    Raises:
        PursuhintError: there are fewer than two positions.
    """

    layers: Mapping[int, Sequence[float]]
    arms: Mapping[str, Sequence[int]] = field(default_factory=dict)
    baseline: float | None = None

    def __post_init__(self) -> None:
        if len(self.layers) < 2:
            raise PursuhintError(f"a landscape needs a hint at two or more layers, got {len(self.layers)}")


def position_landscape(
    layers: Mapping[int, Sequence[float]],
    arms: Mapping[str, Sequence[int]],
    *,
    baseline: float | None = None,
    measure: str = "test accuracy (top-1, %)",
    title: str = "",
) -> Figure:
    """Mean accuracy by the position of a single hint with a band of one standard deviation.

    Below the curve is one row an arm with marks at its positions.

    Args:
        layers: results of every seed by position.
        arms: positions by arm; none leaves the rows out.
        baseline: accuracy without hints, drawn as a line; None for none.
        measure: what the results are.
        title: a heading; empty for none.

    Raises:
        PursuhintError: there are fewer than two positions.
    """
    return position_landscapes({"": Landscape(layers, arms, baseline)}, measure=measure, title=title)


def position_landscapes(
    landscapes: Mapping[str, Landscape], *, measure: str = "test accuracy (top-1, %)", title: str = ""
) -> Figure:
    """Several landscapes of one teacher, one curve each, over one set of rows.

    An arm whose positions differ between the landscapes has marks in the colors of their curves.

    Args:
        landscapes: by name, at least one.
        measure: what the results are.
        title: a heading; empty for none.
    """
    arms = list(dict.fromkeys(arm for one in landscapes.values() for arm in one.arms))
    height = _ROW * len(arms)
    figure, axes = plain_axes(8.4, 3.1 + height, title)
    upper = axes
    if arms:
        axes.remove()
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(2.6, height + 0.1))
        tidy(upper)
        tidy(lower)
        _draw_rows(lower, arms, landscapes)
        upper.tick_params(labelbottom=False)
    _draw_curves(upper, landscapes)
    upper.set_ylabel(measure, fontsize=TEXT, color=INK)
    upper.grid(color=PALE, linewidth=0.7)
    bottom = figure.axes[-1]
    places = sorted({place for one in landscapes.values() for place in one.layers})
    bottom.set_xticks(places[:: max(1, len(places) // 18)])
    bottom.set_xlabel("layer position of the teacher, in depth order", fontsize=TEXT, color=INK)
    return figure


def _draw_curves(axes: Axes, landscapes: Mapping[str, Landscape]) -> None:
    for number, (name, landscape) in enumerate(landscapes.items()):
        color = CYCLE[number % len(CYCLE)]
        places = sorted(landscape.layers)
        values = [landscape.layers[place] for place in places]
        means = np.array([np.mean(own) for own in values])
        spread = np.array([np.std(own, ddof=1) if len(own) > 1 else 0.0 for own in values])
        axes.fill_between(places, means - spread, means + spread, color=color, alpha=0.18, linewidth=0)
        axes.plot(
            places, means, color=color, marker=MARKERS[number % len(MARKERS)], markersize=4.5, linewidth=1.6,
            linestyle=DASHES[number // len(CYCLE) % len(DASHES)], label=name,
        )  # fmt: skip
    baselines = [one.baseline for one in landscapes.values()]
    for number, baseline in enumerate(baselines):
        if baseline is None or baseline in baselines[:number]:
            continue
        color = CYCLE[number % len(CYCLE)] if len(set(baselines)) > 1 else GRAY
        axes.axhline(baseline, color=color, linewidth=1.0, linestyle="--")
        axes.annotate(
            "no hints",
            (1.01, baseline),
            xycoords=("axes fraction", "data"),
            va="center",
            fontsize=TEXT - 1,
            color=INK,
        )
    if len(landscapes) > 1:
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=3, fontsize=TEXT - 1, frameon=False)


def _draw_rows(axes: Axes, arms: Sequence[str], landscapes: Mapping[str, Landscape]) -> None:
    """One row an arm; marks of several curves stand side by side where they differ."""
    for row, arm in enumerate(arms):
        axes.axhline(row, color=PALE, linewidth=0.7, zorder=0)
        owners = {
            number: set(one.arms[arm]) for number, one in enumerate(landscapes.values()) if arm in one.arms
        }
        shared = len({frozenset(places) for places in owners.values()}) == 1
        for place, (number, positions) in enumerate(owners.items()):
            if shared and place:
                break
            own = row if len(landscapes) == 1 else number
            shift = 0.0 if shared else 0.9 * ((place + 0.5) / len(owners) - 0.5)
            axes.plot(
                sorted(positions),
                [row + shift] * len(positions),
                MARKERS[own % len(MARKERS)] if len(landscapes) == 1 or not shared else "o",
                color=GRAY if shared and len(landscapes) > 1 else CYCLE[own % len(CYCLE)],
                markersize=6 if shared else 4,
                markeredgecolor="white",
                markeredgewidth=1.0 if shared else 0.3,
            )
    axes.set_yticks(range(len(arms)), list(arms))
    axes.set_ylim(len(arms) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
