"""Compression, speed-up and accuracy of students beside their teachers: table 7 of PURSUhInT."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from pursuhint.report.figures.drawing import CYCLE, GRAY, INK, TEXT, canvas, shortened
from pursuhint.report.paper_figures.drawn import DrawnFigure, FigureSettings
from pursuhint.report.paper_figures.folders import short_names
from pursuhint.report.text import signed, thousands
from pursuhint.study.compression import CompressedPair, compressed_pairs
from pursuhint.training import RunRecord

_ROW, _COLUMN = 0.3, 1.22  # inches
_HEADS = ("parameters", "compression", "ms an image", "speed-up", "test top-1 (%)")


def draw(folders: Sequence[Path], settings: FigureSettings) -> DrawnFigure:
    """A table with bars: teachers, and below each its students.

    Args:
        folders: finished runs with a teacher; those that differ by their seed alone are one row.
        settings: ``device`` and ``trust_code`` count.

    Raises:
        PursuhintError: a run is not finished, or as `compressed_pairs`.
    """
    runs = [RunRecord.load_finished(folder) for folder in folders]
    pairs = compressed_pairs(runs, device=settings.device, trust_code=settings.trust_code)
    profile = pairs[0].profile
    caption = (
        "Students beside their teachers. Compression is the share of the teacher's parameters that the "
        "student does without; time is the median for one image, in alternation with the teacher, in float32 "
        f"on {profile.device} ({profile.threads} CPU threads), so a speed-up below 1 is a slower student. "
        "Accuracy is that of the last epoch, its mean where there are several seeds, with the difference to "
        "the teacher's. Bars are relative to the teacher."
    )
    names = dict(zip(map(str, folders), short_names(folders)))
    return DrawnFigure(
        compression_table(rows_of(pairs, names)), caption, {"pairs": [pair.to_dict() for pair in pairs]}
    )


@dataclass(frozen=True)
class Row:
    """A line of the table.

    Attributes:
        name: of the network.
        cells: as text, one a head.
        shares: of the teacher's, for the heads that have a bar, by index of the head.
        is_teacher: whether students follow.
    """

    name: str
    cells: tuple[str, ...]
    shares: dict[int, float]
    is_teacher: bool


def rows_of(pairs: Sequence[CompressedPair], names: dict[str, str]) -> list[Row]:
    """Every teacher with its students below, in the order of the pairs.

    Args:
        pairs: at least one.
        names: of folders, for rows that network and losses do not tell apart.
    """
    groups: dict[tuple[str, str], list[CompressedPair]] = {}
    for pair in pairs:
        groups.setdefault((pair.teacher, pair.data), []).append(pair)
    rows = []
    for (teacher, data), own in groups.items():
        known = {file: top1 for pair in own for file, top1 in pair.teachers.items()}
        top1 = statistics.fmean(known.values()) if known else None
        large = own[0].profile.teacher
        assert large is not None
        accuracy = "unknown" if top1 is None else f"{top1:.2f}"
        cells = (thousands(large.parameters), "", f"{1000 * large.latency[1]:.2f}", "", accuracy)
        rows.append(Row(f"{teacher} on {data}", cells, {0: 1.0, 2: 1.0}, is_teacher=True))
        labels = _labels(own, names)
        rows += [_student_row(pair, label, top1) for pair, label in zip(own, labels)]
    return rows


def _labels(pairs: Sequence[CompressedPair], names: dict[str, str]) -> list[str]:
    """Names of students; with the losses, and then the folder, where they would be equal."""
    labels = [pair.student for pair in pairs]
    if len(set(labels)) < len(labels):
        labels = [f"{pair.student}, {pair.losses}" for pair in pairs]
    if len(set(labels)) < len(labels):
        labels = [f"{label}, {names[pair.runs[0]]}" for label, pair in zip(labels, pairs)]
    return labels


def _student_row(pair: CompressedPair, label: str, teacher_top1: float | None) -> Row:
    small, large = pair.profile.student, pair.profile.teacher
    assert large is not None
    speed_up = pair.profile.speed_up[1]
    accuracy = f"{pair.mean_top1:.2f}"
    if teacher_top1 is not None:
        accuracy += f" ({signed(pair.mean_top1 - teacher_top1).replace('-', '−')})"
    compression = f"{pair.profile.compression:.1f} %"
    time = f"{1000 * small.latency[1]:.2f}"
    cells = (thousands(small.parameters), compression, time, f"×{speed_up:.2f}", accuracy)
    shares = {0: small.parameters / large.parameters, 2: small.latency[1] / large.latency[1]}
    return Row(label, cells, shares, is_teacher=False)


def compression_table(rows: Sequence[Row]) -> Figure:
    """Rows of numbers; parameters and times with a bar of the teacher's.

    Args:
        rows: from top to bottom.
    """
    left = 0.3 + 0.068 * max(len(shortened(row.name, 40)) for row in rows)
    width, height = left + _COLUMN * len(_HEADS) + 0.15, 0.42 + _ROW * len(rows) + 0.1
    figure, place = canvas(width, height)
    axes = place(0, 0, width, height)
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.set_axis_off()
    for column, head in enumerate(_HEADS):
        right = left + _COLUMN * (column + 1) - 0.12
        axes.text(right, 0.26, head, ha="right", va="center", fontsize=TEXT, color=GRAY)
    longest = max([1.0, *(share for row in rows for share in row.shares.values())])
    for index, row in enumerate(rows):
        y = 0.42 + _ROW * (index + 0.5)
        weight = "bold" if row.is_teacher else "normal"
        if row.is_teacher:
            axes.plot([0.1, width - 0.1], [y - _ROW / 2] * 2, color=GRAY, linewidth=0.7)
        indent = 0.1 if row.is_teacher else 0.24
        axes.text(
            indent, y, shortened(row.name, 40), va="center", fontsize=TEXT, color=INK, fontweight=weight
        )
        for column, cell in enumerate(row.cells):
            start = left + _COLUMN * column
            if column in row.shares:
                room = (_COLUMN - 0.12) * row.shares[column] / longest
                color = GRAY if row.is_teacher else CYCLE[0]
                axes.barh(y + 0.115, room, left=start + _COLUMN - 0.12 - room, height=0.05, color=color)
            axes.text(
                start + _COLUMN - 0.12, y, cell, ha="right", va="center", fontsize=TEXT, color=INK,
                fontweight=weight,
            )  # fmt: skip
    return figure
