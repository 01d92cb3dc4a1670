"""Seconds of the two steps of an analysis by metric: table 1 of PURSUhInT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pursuhint.analysis.result import Analysis
from pursuhint.report.figures.drawing import CYCLE, INK, PALE, TEXT, canvas, shortened, tidy
from pursuhint.report.paper_figures.drawn import DrawnFigure, FigureSettings
from pursuhint.report.paper_figures.folders import load_analysis
from pursuhint.report.text import metric_title


@dataclass(frozen=True)
class Steps:
    """What an analysis took with one metric, in seconds.

    Attributes:
        network: whose layers.
        layers: how many were compared.
        images: how many the network was run on.
        device: where.
        metric: name of the metric.
        collect: step 1: the pass over the images, shared by all metrics.
        similarity: step 2: from statistics to the similarity matrix.
        cluster: step 2: clustering by all algorithms, and the curves over k.
        stability: resampling, which the paper has not.
    """

    network: str
    layers: int
    images: int
    device: str
    metric: str
    collect: float
    similarity: float
    cluster: float
    stability: float


def draw(folders: Sequence[Path], settings: FigureSettings) -> DrawnFigure:
    """Bars of both steps, one row a metric.

    Args:
        folders: analyses, or folders that hold one.
        settings: none counts.

    Raises:
        PursuhintError: a folder holds no analysis.
    """
    rows = [row for folder in folders for row in steps_of(load_analysis(folder))]
    caption = (
        "Seconds of the two steps before any training. Step 1 runs the network on the images and gathers "
        "statistics of its layers, once for all metrics; step 2 computes the similarity of every pair of "
        "layers, and clusters them by all algorithms and for all k of the curves. Estimating the stability, "
        "which the paper has not, is in the numbers only."
    )
    return DrawnFigure(step_bars(rows), caption, {"rows": [asdict(row) for row in rows]})


def steps_of(analysis: Analysis) -> list[Steps]:
    """One entry a metric that was asked for."""
    source, seconds = analysis.provenance, analysis.seconds
    return [
        Steps(
            source.network,
            len(analysis.candidates),
            source.num_samples,
            source.device,
            metric,
            seconds.collect,
            seconds.similarity[analysis.clusters.clustered_with[metric]],
            seconds.clustering[metric],
            seconds.stability.get(metric, 0.0),
        )
        for metric in analysis.metrics
    ]


def step_bars(rows: Sequence[Steps]) -> Figure:
    """Two panels of horizontal bars, each with its own scale.

    Args:
        rows: from top to bottom.
    """
    names = [f"{shortened(row.network, 28)}, {row.layers} layers, {metric_title(row.metric)}" for row in rows]
    left, width, gap, bottom, top = 0.3 + 0.066 * max(map(len, names)), 2.5, 0.85, 0.72, 0.42
    height = max(0.6, 0.34 * len(rows))
    figure, place = canvas(left + 2 * width + gap + 0.85, bottom + height + top)
    titles = ("step 1: run the network", "step 2: similarity and clusters")
    bars: tuple[list[list[float]], ...] = (
        [[row.collect for row in rows]],
        [[row.similarity for row in rows], [row.cluster for row in rows]],
    )
    for index, (title, stacks) in enumerate(zip(titles, bars)):
        axes = place(left + index * (width + gap), bottom, width, height)
        starts = [0.0] * len(rows)
        labels = ("similarity", "clusters") if len(stacks) > 1 else ("",)
        for number, (stack, label) in enumerate(zip(stacks, labels)):
            color, hatch = CYCLE[index + number], "///" if number else ""
            axes.barh(
                range(len(rows)), stack, left=starts, height=0.62, color=color, hatch=hatch,
                edgecolor="white", linewidth=0.5, label=label,
            )  # fmt: skip
            starts = [start + value for start, value in zip(starts, stack)]
        _finish(axes, starts, title)
        axes.set_yticks(range(len(rows)), names if index == 0 else [""] * len(rows))
        if len(stacks) > 1:
            axes.legend(
                loc="upper center", bbox_to_anchor=(0.5, -0.42 / height), ncols=2, fontsize=TEXT - 1,
                frameon=False, handlelength=1.6,
            )  # fmt: skip
    return figure


def _finish(axes: Axes, ends: Sequence[float], title: str) -> None:
    """Numbers at the ends of the bars, heading and axis."""
    tidy(axes)
    axes.set_xlim(0, max(ends) * 1.02 or 1.0)
    axes.set_ylim(len(ends) - 0.45, -0.55)
    for row, end in enumerate(ends):
        axes.annotate(
            f"{end:.3g} s", (end, row), xytext=(4, 0), textcoords="offset points", va="center",
            fontsize=TEXT - 1, color=INK, annotation_clip=False,
        )  # fmt: skip
    axes.set_title(title, fontsize=TEXT, color=INK, loc="left", pad=5)
    axes.set_xlabel("seconds", fontsize=TEXT, color=INK, labelpad=2)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=4))
    axes.grid(axis="x", color=PALE, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(axis="y", length=0)
