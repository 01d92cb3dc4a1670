"""Teacher-student difference of logit correlations: figure 1 of RRD and of ICD."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pursuhint.report.figures.drawing import INK, TEXT, canvas, shortened
from pursuhint.report.paper_figures.drawn import DrawnFigure, FigureSettings
from pursuhint.report.paper_figures.folders import short_names
from pursuhint.study.logit_correlation import LogitCorrelations, logit_correlations
from pursuhint.study.run_networks import load_run_networks

_NAMED = 12  # classes, beyond which the axes count
_A_ROW = 4


def draw(folders: Sequence[Path], settings: FigureSettings) -> DrawnFigure:
    """One map a run, all on one scale: teacher's minus student's correlation of two logits.

    Args:
        folders: finished runs with a teacher.
        settings: ``device`` and ``trust_code`` count.

    Raises:
        PursuhintError: as `load_run_networks` and `logit_correlations`.
    """
    names = short_names(folders)
    found: dict[str, LogitCorrelations] = {}
    classes: list[tuple[str, ...]] = []
    pairs = []
    loaded = load_run_networks(folders, device=settings.device, trust_code=settings.trust_code)
    for name, networks in zip(names, loaded):
        settings.watch(f"{name}: logits of {len(networks.data.test):,} test images{networks.about}")
        found[name] = logit_correlations(networks)
        classes.append(networks.data.class_names)
        pairs.append((networks.teacher_name, networks.run.recipe.student.network))
    caption = (
        "Correlation over all test images of the logits of two classes, teacher's minus student's; every "
        "cell is a pair of classes, and the number is the mean absolute difference over different classes. "
        "Smaller means that the student kept more of how the teacher relates classes."
    )
    numbers = {
        "runs": [
            {
                "run": str(folder),
                "teacher": pair[0],
                "student": pair[1],
                "test_images": one.count,
                "classes": list(named),
                "mean_absolute_difference": one.mean_difference,
                "difference": one.difference.tolist(),
            }
            for folder, one, named, pair in zip(folders, found.values(), classes, pairs)
        ]
    }
    maps = {name: one.difference for name, one in found.items()}
    means = [one.mean_difference for one in found.values()]
    return DrawnFigure(difference_maps(maps, means, classes), caption, numbers)


def difference_maps(
    maps: Mapping[str, NDArray[np.float64]], means: Sequence[float], classes: Sequence[Sequence[str]]
) -> Figure:
    """Square maps on one diverging scale around zero, up to four a row.

    Args:
        maps: (classes, classes) by heading.
        means: the number under each heading.
        classes: names of the classes, by map.
    """
    side, gap, left, right, bottom, head = 2.1, 0.3, 0.75, 0.95, 0.62, 0.5
    columns = min(_A_ROW, len(maps))
    rows = -(-len(maps) // columns)
    named = any(len(one) <= _NAMED and max(map(len, one)) > 2 for one in classes)
    if named:
        longest = max(len(name) for one in classes for name in one)
        left, bottom = (size + 0.06 * min(longest, 14) for size in (left, bottom))
        gap = left if len(set(map(tuple, classes))) > 1 else gap
    width = left + columns * side + (columns - 1) * gap + right
    figure, place = canvas(width, rows * (side + head + bottom))
    limit = max(0.01, *(float(np.abs(one).max()) for one in maps.values()))
    for index, ((name, values), mean) in enumerate(zip(maps.items(), means)):
        row, column = divmod(index, columns)
        y = (rows - 1 - row) * (side + head + bottom) + bottom
        axes = place(left + column * (side + gap), y, side, side)
        image = axes.imshow(
            values, cmap="PuOr_r", norm=TwoSlopeNorm(0, -limit, limit), interpolation="nearest"
        )
        axes.set_title(shortened(name, 30), fontsize=TEXT, color=INK, pad=17)
        axes.text(
            0.5, 1.03, f"mean |difference| {mean:.4f}", transform=axes.transAxes, ha="center",
            fontsize=TEXT - 1, color=INK,
        )  # fmt: skip
        axes.tick_params(labelsize=TEXT - 1, colors=INK, length=2.5, width=0.6)
        for spine in axes.spines.values():
            spine.set_visible(False)
        first = column == 0 or gap == left
        if len(classes[index]) <= _NAMED:
            texts = [shortened(text, 14) for text in classes[index]]
            axes.set_xticks(range(len(texts)), texts, rotation=90 if named else 0)
            axes.set_yticks(range(len(texts)), texts if first else [""] * len(texts))
        else:
            ticks = np.linspace(0, len(values) - 1, 5).round().astype(int)
            axes.set_xticks(ticks, [str(tick + 1) for tick in ticks])
            axes.set_yticks(ticks, [str(tick + 1) if first else "" for tick in ticks])
        axes.set_xlabel("class", fontsize=TEXT, color=INK)
        if first:
            axes.set_ylabel("class", fontsize=TEXT, color=INK)
    bar = figure.colorbar(image, cax=place(width - right + 0.12, bottom, 0.14, side))
    bar.set_label("teacher's − student's correlation", fontsize=TEXT - 1, color=INK)
    bar.ax.tick_params(labelsize=TEXT - 1, colors=INK, length=2.5, width=0.6)
    bar.outline.set_visible(False)
    return figure
