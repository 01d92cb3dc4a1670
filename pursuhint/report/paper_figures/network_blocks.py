"""A network as a row of blocks with sizes, clusters and hint points: figure 2 of PURSUhInT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from pursuhint.analysis.result import Analysis
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint, find_hint_points, stage_ends
from pursuhint.models import create_model
from pursuhint.report.figures.drawing import (
    CYCLE,
    DARK,
    GRAY,
    INK,
    TEXT,
    canvas,
    cluster_letter,
    shortened,
    spread,
    stretches,
)
from pursuhint.report.paper_figures.drawn import DrawnFigure, FigureSettings
from pursuhint.report.paper_figures.folders import find_analysis, short_names
from pursuhint.report.text import listed, metric_title
from pursuhint.training import RunRecord
from pursuhint.training.recipe.received import check_code

_STAGES = ("#BFBFBF", "#E2E2E2")
_NO_CLUSTER = "#F4F4F4"
_WIDTH, _TALL, _LOW, _ROW = 8.2, 0.62, 0.2, 1.62  # inches: a row of blocks, the largest and smallest block
_CLEAR = {"facecolor": "white", "edgecolor": "none", "pad": 0.6}  # behind texts that lines may cross


@dataclass(frozen=True)
class BlockRow:
    """A network in depth order.

    Attributes:
        title: what the row shows.
        points: its sub-blocks.
        clusters: of every sub-block, from 0, None for one that was not clustered; None colours by stage.
        hints: modules of the hint points.
        pairs: modules of the row below that learn from modules of this one.
    """

    title: str
    points: tuple[HintPoint, ...]
    clusters: tuple[int | None, ...] | None
    hints: frozenset[str]
    pairs: tuple[tuple[str, str], ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        groups = self.clusters or [None] * len(self.points)
        return {
            "title": self.title,
            "blocks": [
                {
                    "module": point.module,
                    "position": point.position,
                    "channels": point.channels,
                    "spatial": list(point.spatial),
                    "stage": point.stage,
                    "cluster": None if group is None else cluster_letter(group),
                    "hint": point.module in self.hints,
                }
                for point, group in zip(self.points, groups)
            ],
            "pairs": [list(pair) for pair in self.pairs],
        }


def draw(folders: Sequence[Path], settings: FigureSettings) -> DrawnFigure:
    """Rows of blocks: of an analysis by convention and by clusters, of a run teacher above student.

    Args:
        folders: analyses, or runs; a run without hints has blocks without marks.
        settings: ``trust_code`` counts, for runs.

    Raises:
        PursuhintError: a folder is neither, or a network is code without ``trust_code``.
    """
    rows: list[BlockRow] = []
    unmarked = []
    for folder, name in zip(folders, short_names(folders)):
        prefix = f"{name}: " if len(folders) > 1 else ""
        if (folder / "recipe.yaml").exists():
            own = rows_of_run(folder, prefix, trust_code=settings.trust_code)
            rows += own
            if not any(row.hints for row in own):
                unmarked.append(name)
            continue
        analysis = find_analysis(folder)
        if analysis is None:
            raise PursuhintError(
                f"{folder} holds neither an analysis nor a run, whose network could be drawn"
            )
        rows += rows_of_analysis(analysis, prefix)
    caption = (
        "Sub-blocks of a network in depth order, from the image on the left to the classifier on the right. "
        "Higher blocks have larger feature maps; below stand their size and number of channels. Black blocks "
        "are hint points, with their positions above; letters and colors are clusters, shades of gray are "
        "stages of one resolution, and lines join what learns from what."
    )
    if unmarked:
        caption += f" Without hints: {listed(unmarked)}."
    return DrawnFigure(block_rows(rows), caption, {"rows": [row.to_dict() for row in rows]})


def rows_of_analysis(analysis: Analysis, prefix: str = "") -> list[BlockRow]:
    """The teacher by convention, the last block of every stage, and by clusters."""
    points, network = analysis.layers.points, analysis.provenance.network
    usual = frozenset(point.module for point in stage_ends(points))
    metric, algorithm = analysis.metrics[0], str(analysis.plan.origin.get("algorithm", "kmeans"))
    chosen = frozenset(point.module for point in analysis.plan.teacher_points)
    how = f"{metric_title(metric)}, {algorithm}"
    return [
        BlockRow(f"{prefix}{network}: the last block of every stage", points, None, usual),
        BlockRow(f"{prefix}{network}: clusters by {how}", points, _clusters(analysis), chosen),
    ]


def _clusters(analysis: Analysis) -> tuple[int | None, ...]:
    algorithm = str(analysis.plan.origin.get("algorithm", "kmeans"))
    labels = analysis.clusters.clusterings[analysis.metrics[0]][algorithm].labels
    by_module = {point.module: label for point, label in zip(analysis.candidates, labels)}
    return tuple(by_module.get(point.module) for point in analysis.layers.points)


def rows_of_run(folder: Path, prefix: str = "", *, trust_code: bool = False) -> list[BlockRow]:
    """The teacher of a run, with clusters where the run has an analysis, and its student below.

    A run without a teacher has one row, and one without hints has no marks.

    Raises:
        PursuhintError: a network is code without ``trust_code``, was passed from Python, or is one for texts.
    """
    run = RunRecord.load(folder)
    plans = run.all_plans
    check_code(run.recipe, f"the run {folder}", trust_code=trust_code)
    pairs = dict.fromkeys((pair.teacher, pair.student) for plan in plans for pair in plan.pairs)
    joined = tuple((one.module, other.module) for one, other in pairs if other is not None)
    activation = plans[0].teacher_points[0].activation if plans else "post"
    analysis = find_analysis(folder)
    rows = []
    for role, config, own in (
        ("teacher", run.recipe.teacher, {one for one, _ in pairs}),
        ("student", run.recipe.student, {other for _, other in pairs if other is not None}),
    ):
        if config is None:  # trained without a teacher
            continue
        if config.network.startswith("python:"):
            raise PursuhintError(
                f"the {role} of {folder} was passed from Python ({config.network}) and cannot be built again"
            )
        sizes = run.environment["data"]
        if sizes["image_size"] is None:
            raise PursuhintError(f"the networks of {folder} take no images, and so cannot be drawn as blocks")
        network = create_model(
            config.network,
            num_classes=config.num_classes or sizes["num_classes"],
            in_channels=sizes["in_channels"],
            **config.options,
        )
        example = torch.zeros(2, sizes["in_channels"], *sizes["image_size"])
        points = find_hint_points(network, example, activation=activation)
        known = {point.module for point in points}
        # Hint points that are no candidates, such as a module named by hand, stand where their position says.
        points = tuple(sorted({*points, *(p for p in own if p.module not in known)}, key=_place))
        clusters = None
        if role == "teacher" and analysis is not None and _fits(analysis, points):
            clusters = _clusters(analysis)
        rows.append(
            BlockRow(
                f"{prefix}{role}: {config.network}",
                points,
                clusters,
                frozenset(point.module for point in own),
                joined if role == "teacher" else (),
            )
        )
    return rows


def _place(point: HintPoint) -> tuple[int, str]:
    return point.position, point.module


def _fits(analysis: Analysis, points: Sequence[HintPoint]) -> bool:
    return [p.module for p in analysis.layers.points] == [p.module for p in points]


def block_rows(rows: Sequence[BlockRow]) -> Figure:
    """Networks as rows of blocks, all as wide.

    Args:
        rows: from top to bottom.
    """
    figure, place = canvas(_WIDTH + 0.5, _ROW * len(rows) + 0.05)
    axes = place(0, 0, _WIDTH + 0.5, _ROW * len(rows) + 0.05)
    axes.set_xlim(-0.25, _WIDTH + 0.25)
    axes.set_ylim(-_ROW * len(rows) - 0.05, 0)
    axes.set_axis_off()
    for index, row in enumerate(rows):
        top = -_ROW * index
        if row.pairs:
            _draw_pairs(axes, row, rows[index + 1], top)
        _draw_row(axes, row, top)
    return figure


def _step(row: BlockRow) -> float:
    return _WIDTH / len(row.points)


def _heights(row: BlockRow) -> list[float]:
    """Of the blocks: the square root of the share of the largest feature map, so that each half is seen."""
    sides = [max(point.spatial[0] if point.spatial else 1, 1) for point in row.points]
    return [_LOW + (_TALL - _LOW) * (side / max(sides)) ** 0.7 for side in sides]


def _base(top: float) -> float:
    """Where the blocks of a row stand."""
    return top - 0.52 - _TALL


def _draw_row(axes: Axes, row: BlockRow, top: float) -> None:
    axes.text(0, top - 0.16, shortened(row.title, 100), fontsize=TEXT, color=INK, va="center")
    step, base, heights = _step(row), _base(top), _heights(row)
    groups = list(row.clusters) if row.clusters is not None else [None] * len(row.points)
    stages = [point.stage for point in row.points]
    for index, (point, group, height) in enumerate(zip(row.points, groups, heights)):
        if point.module in row.hints:
            color = INK
        elif row.clusters is None:
            color = _STAGES[sorted(set(stages)).index(point.stage) % 2]
        else:
            color = _NO_CLUSTER if group is None else CYCLE[group % len(CYCLE)]
        gap = min(0.06, 0.18 * step)
        axes.add_patch(
            Rectangle(
                (index * step + gap / 2, base), step - gap, height, facecolor=color, edgecolor=GRAY,
                linewidth=0.4,
            )
        )  # fmt: skip
        if color == INK and group is not None:  # the cluster of a hint point
            foot = Rectangle((index * step + gap / 2, base), step - gap, 0.07)
            foot.set(facecolor=CYCLE[group % len(CYCLE)], linewidth=0)
            axes.add_patch(foot)
    _write_positions(axes, row, top)
    _write_sizes(axes, row, base)
    if row.clusters is not None:
        for first, last in stretches([-1 if group is None else group for group in groups]):
            if groups[first] is not None:
                _write_letter(axes, row, first, last, base)


def _write_letter(axes: Axes, row: BlockRow, first: int, last: int, base: float) -> None:
    """The letter of a cluster at the foot of the block in the middle of a stretch, beside a black one."""
    assert row.clusters is not None
    free = [i for i in range(first, last + 1) if row.points[i].module not in row.hints] or [first]
    spot = min(free, key=lambda i: abs(i - (first + last) / 2))
    group = row.clusters[spot]
    assert group is not None
    black = row.points[spot].module in row.hints
    axes.text(
        (spot + 0.5) * _step(row), base + 0.15, cluster_letter(group), ha="center", va="center",
        fontsize=TEXT - 1, color="white" if black or CYCLE[group % len(CYCLE)] in DARK else INK,
    )  # fmt: skip


def _write_positions(axes: Axes, row: BlockRow, top: float) -> None:
    """Positions of the hint points above their blocks, moved apart where they would overlap."""
    step, heights = _step(row), _heights(row)
    marked = [index for index, point in enumerate(row.points) if point.module in row.hints]
    spots = [(index + 0.5) * step for index in marked]
    for index, spot, x in zip(marked, spots, spread(spots, 0.2, 0, _WIDTH)):
        block = _base(top) + heights[index]
        if abs(x - spot) > 0.06:
            axes.plot([spot, x], [block, top - 0.5], color=GRAY, linewidth=0.6)
        elif block < top - 0.55:
            axes.plot([spot, spot], [block, top - 0.5], color=GRAY, linewidth=0.6, linestyle=":")
        axes.text(
            x, top - 0.42, str(row.points[index].position), ha="center", va="center", fontsize=TEXT - 1,
            color=INK, fontweight="bold", bbox=_CLEAR,
        )  # fmt: skip


def _write_sizes(axes: Axes, row: BlockRow, base: float) -> None:
    """Size of the feature maps and number of channels under every stretch of equal blocks."""
    sizes = [(point.spatial, point.channels) for point in row.points]
    known = list(dict.fromkeys(sizes))
    step = _step(row)
    for first, last in stretches([known.index(size) for size in sizes]):
        spatial, channels = sizes[first]
        room = (last - first + 1) * step
        axes.plot(
            [first * step + 0.03, (last + 1) * step - 0.03], [base - 0.05] * 2, color=GRAY, linewidth=0.8
        )
        where = "×".join(map(str, spatial)) + (" tokens" if len(spatial) == 1 else "")
        lines = [where, str(channels)] if where else [str(channels)]
        if room > 0.075 * max(len(where), 14):
            lines[-1] += " channels"
        if room >= 0.058 * max(map(len, lines)):
            axes.text(
                (first + last + 1) / 2 * step, base - 0.09, "\n".join(lines), ha="center", va="top",
                fontsize=TEXT - 1.5, color=INK, linespacing=1.15, bbox=_CLEAR,
            )  # fmt: skip


def _draw_pairs(axes: Axes, row: BlockRow, below: BlockRow, top: float) -> None:
    """Lines from the blocks that teach to those that learn."""
    places = [{point.module: i for i, point in enumerate(each.points)} for each in (row, below)]
    heights = _heights(below)
    for teacher, student in row.pairs:
        one, other = places[0][teacher], places[1][student]
        axes.plot(
            [(one + 0.5) * _step(row), (other + 0.5) * _step(below)],
            [_base(top), _base(top - _ROW) + heights[other]],
            color=CYCLE[4],
            linewidth=1.1,
            zorder=0.5,
        )
