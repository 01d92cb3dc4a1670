"""Attention maps of teacher and student side by side: as figure 1 of AT."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from pursuhint._util.seeds import derived_generator
from pursuhint.data import ImageData
from pursuhint.report.figures.drawing import INK, TEXT, canvas, shortened
from pursuhint.report.paper_figures.drawn import DrawnFigure, FigureSettings
from pursuhint.report.paper_figures.folders import short_names
from pursuhint.report.text import count
from pursuhint.study.attention_maps import Pair, PairAttention, attention_of, pairs_of
from pursuhint.study.run_networks import load_run_networks

_PAIRS = 4  # more are too small to be seen
_SIDE, _GAP, _BETWEEN, _HEAD, _LEFT = 0.78, 0.05, 0.2, 0.82, 0.95  # inches


@dataclass(frozen=True, eq=False)
class Panel:
    """What a run's networks look at.

    Attributes:
        title: of the run.
        images: (images, height, width) or (images, height, width, 3), in [0, 1].
        names: of the images' classes.
        pairs: of hint points.
    """

    title: str
    images: NDArray[np.float32]
    names: tuple[str, ...]
    pairs: tuple[PairAttention, ...]


def draw(folders: Sequence[Path], settings: FigureSettings) -> DrawnFigure:
    """One block of rows a run: image, and for every pair of hint points both attention maps.

    Args:
        folders: finished runs with a teacher.
        settings: ``images``, ``seed``, ``device`` and ``trust_code`` count.

    Raises:
        PursuhintError: as `load_run_networks`, or there are no feature maps.
    """
    panels, numbers, notes = [], [], []
    loaded = load_run_networks(folders, device=settings.device, trust_code=settings.trust_code)
    for folder, name, networks in zip(folders, short_names(folders), loaded):
        points = pairs_of(networks)
        some = _some(points.pairs)
        if not points.are_hints:
            notes.append(f"{name} has no hints, so its stage ends are shown.")
        elif len(some) < len(points.pairs):
            total = count(len(points.pairs), "pair")
            notes.append(f"{name} has {total} of hint points; {len(some)} are shown.")
        if points.left_out:
            notes.append(f"No maps, and so left out of {name}: {'; '.join(points.left_out)}.")
        order = torch.randperm(
            len(networks.data.test), generator=derived_generator("attention", settings.seed)
        )
        shown = order[: settings.images].tolist()
        settings.watch(f"{name}: attention at {count(len(some), 'pair')} of points{networks.about}")
        found, images, labels = attention_of(networks, some, shown)
        classes = tuple(networks.data.class_names[label] for label in labels)
        recipe = networks.run.recipe
        title = f"{name}: {networks.teacher_name} and {recipe.student.network}"
        panels.append(Panel(title, visible(images, networks.data), classes, tuple(found)))
        numbers.append(
            {
                "run": str(folder),
                "test_images": shown,
                "pairs": [_plain(pair) for pair in found],
                "left_out": list(points.left_out),
            }
        )
    caption = (
        "Where teacher and student are active at their hint points: squares of the features, averaged over "
        f"the channels, for test images drawn with seed {settings.seed}; every map has its own scale, from "
        "zero to its maximum. The number is the mean cosine of both maps over all test images; 1 means "
        f"that both look at the same places. {' '.join(notes)}"
    ).strip()
    return DrawnFigure(attention_panels(panels), caption, {"runs": numbers, "seed": settings.seed})


def _some(pairs: Sequence[Pair]) -> list[Pair]:
    """Up to four pairs, evenly over all."""
    if len(pairs) <= _PAIRS:
        return list(pairs)
    return [pairs[round(place)] for place in np.linspace(0, len(pairs) - 1, _PAIRS)]


def _plain(pair: PairAttention) -> dict[str, Any]:
    return {
        "teacher": pair.teacher.module,
        "student": pair.student.module,
        "mean_cosine": pair.similarity,
        "teacher_maps": np.round(pair.teacher_maps, 5).tolist(),
        "student_maps": np.round(pair.student_maps, 5).tolist(),
    }


def visible(images: NDArray[np.float32], data: ImageData) -> NDArray[np.float32]:
    """Normalised images as pictures.

    Args:
        images: (images, channels, height, width), normalised as ``data``.
        data: whose constants are undone.

    Returns:
        Values in [0, 1]: (images, height, width, 3) of three channels; else the mean of the channels,
        (images, height, width). Images in units of their own are stretched from their minimum to their
        maximum.
    """
    shape = (1, -1, 1, 1)
    mean, std = (np.array(values, dtype=np.float32).reshape(shape) for values in (data.mean, data.std))
    pictures = images * std + mean
    if data.preprocessing.value_range is None:
        low, high = pictures.min(), pictures.max()
        pictures = (pictures - low) / (high - low if high > low else 1.0)
    pictures = pictures.clip(0, 1).transpose(0, 2, 3, 1)
    found: NDArray[np.float32] = pictures if pictures.shape[-1] == 3 else pictures.mean(-1)
    return found


def attention_panels(panels: Sequence[Panel]) -> Figure:
    """Rows of images with the maps of both networks beside them.

    Args:
        panels: from top to bottom.
    """
    step = 2 * _SIDE + _GAP + _BETWEEN
    width = _LEFT + _SIDE + _BETWEEN + step * max(len(panel.pairs) for panel in panels)
    heights = [_HEAD + len(panel.images) * (_SIDE + _GAP) + 0.12 for panel in panels]
    figure, place = canvas(max(width, 3.4), sum(heights))
    top = sum(heights)

    def show(values: NDArray[np.float32], x: float, y: float, *, is_map: bool) -> Axes:
        axes = place(x, y, _SIDE, _SIDE)
        colors, high = ("viridis", float(values.max()) or 1.0) if is_map else ("gray", 1.0)
        axes.imshow(values, cmap=colors, vmin=0, vmax=high, aspect="auto", interpolation="nearest")
        axes.set_axis_off()
        return axes

    def write(text: str, x: float, y: float, **look: Any) -> None:
        figure.text(
            x / figure.get_figwidth(), y / sum(heights), text, color=INK,
            **{"fontsize": TEXT - 1, "ha": "center", "va": "center", **look},
        )  # fmt: skip

    for panel, height in zip(panels, heights):
        write(panel.title, 0.1, top - 0.14, ha="left", fontsize=TEXT)
        start = _LEFT + _SIDE + _BETWEEN
        for number, pair in enumerate(panel.pairs):
            middle = start + number * step + _SIDE + _GAP / 2
            names = f"position {pair.teacher.position} → {pair.student.position}"
            write(f"{names}, cosine {pair.similarity:.2f}", middle, top - 0.45)
            write("teacher", middle - (_SIDE + _GAP) / 2, top - 0.66)
            write("student", middle + (_SIDE + _GAP) / 2, top - 0.66)
        for row, name in enumerate(panel.names):
            y = top - _HEAD - row * (_SIDE + _GAP) - _SIDE
            write(shortened(name, 13), _LEFT - 0.08, y + _SIDE / 2, ha="right")
            show(panel.images[row], _LEFT, y, is_map=False)
            for number, pair in enumerate(panel.pairs):
                x = start + number * step
                show(pair.teacher_maps[row], x, y, is_map=True)
                show(pair.student_maps[row], x + _SIDE + _GAP, y, is_map=True)
        top -= height
    return figure
