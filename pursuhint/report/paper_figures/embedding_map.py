"""t-SNE of the embeddings of teachers and students."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import Normal, Stroke
from numpy.typing import NDArray

from pursuhint.report.figures.drawing import CYCLE, GRAY, INK, MARKERS, TEXT, canvas, shortened
from pursuhint.report.paper_figures.drawn import DrawnFigure, FigureSettings
from pursuhint.report.paper_figures.folders import short_names
from pursuhint.study.embedding_map import choose_images, map_embeddings, read_embeddings
from pursuhint.study.run_networks import load_run_networks

_CLASSES = 10  # more cannot be told apart
_A_ROW = 3
_NAME = 12  # characters of a class's name


@dataclass(frozen=True, eq=False)
class Panel:
    """A network's embeddings in the plane.

    Attributes:
        title: of the network.
        places: (images, 2).
        labels: (images,).
        silhouette: of the classes in the embeddings.
        classes: names of the classes.
    """

    title: str
    places: NDArray[np.float64]
    labels: NDArray[np.int64]
    silhouette: float | None
    classes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "title": self.title,
            "silhouette": self.silhouette,
            "places": np.round(self.places, 3).tolist(),
            "labels": self.labels.tolist(),
            "classes": list(self.classes),
        }


def draw(folders: Sequence[Path], settings: FigureSettings) -> DrawnFigure:
    """One panel for every teacher and every student; runs with the same teacher share its panel.

    Args:
        folders: finished runs with a teacher.
        settings: ``samples``, ``seed``, ``device`` and ``trust_code`` count.

    Raises:
        PursuhintError: as `load_run_networks`, or there are fewer than ten images.
    """
    panels: list[Panel] = []
    seen: list[tuple[Any, Any]] = []
    left_out = 0
    loaded = load_run_networks(folders, device=settings.device, trust_code=settings.trust_code)
    for name, networks in zip(short_names(folders), loaded):
        data, recipe = networks.data, networks.run.recipe
        shown = min(data.num_classes, _CLASSES)
        left_out = max(left_out, data.num_classes - shown)
        chosen = choose_images(data.test.labels, classes=shown, samples=settings.samples, seed=settings.seed)
        settings.watch(f"{name}: embeddings of {len(chosen):,} test images{networks.about}")
        found = read_embeddings(networks, chosen)
        drawn = [(f"{name}: {recipe.student.network}", found.student)]
        if (networks.teacher, data) not in seen:
            seen.append((networks.teacher, data))
            drawn.insert(0, (f"teacher: {networks.teacher_name}", found.teacher))
        for title, values in drawn:
            places, apart = map_embeddings(values, found.labels, settings.seed)
            panels.append(Panel(title, places, found.labels, apart, data.class_names[:shown]))
    caption = (
        f"t-SNE of the embeddings (what the classifier takes) of {len(panels[0].labels):,} test images drawn "
        f"with seed {settings.seed}, each network by itself. Axes have no unit, and distances between groups "
        "mean little; the number is the mean silhouette of the classes in the embeddings themselves, from −1 "
        "to 1, higher where classes stand apart."
    )
    if left_out:
        caption += f" The first {_CLASSES} classes are shown; {left_out:,} are left out."
    numbers = {"panels": [panel.to_dict() for panel in panels], "seed": settings.seed}
    return DrawnFigure(embedding_panels(panels), caption, numbers)


def embedding_panels(panels: Sequence[Panel]) -> Figure:
    """Square panels of dots; every class has a color and a mark, and its name at its median.

    Args:
        panels: at least one.
    """
    side, gap, head, edge = 2.75, 0.2, 0.55, 0.12
    columns = min(_A_ROW, len(panels))
    rows = -(-len(panels) // columns)
    width = 2 * edge + columns * side + (columns - 1) * gap
    figure, place = canvas(width, rows * (side + head) + edge)
    for index, panel in enumerate(panels):
        row, column = divmod(index, columns)
        y = edge + (rows - 1 - row) * (side + head)
        axes = place(edge + column * (side + gap), y, side, side)
        axes.set_title(shortened(panel.title, 42), fontsize=TEXT, color=INK, pad=17)
        apart = "one class" if panel.silhouette is None else f"silhouette {panel.silhouette:.3f}"
        axes.text(
            0.5, 1.025, apart.replace("-", "−"), transform=axes.transAxes, ha="center", fontsize=TEXT - 1,
            color=INK,
        )  # fmt: skip
        _scatter(axes, panel)
    return figure


def _scatter(axes: Axes, panel: Panel) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color(GRAY)
        spine.set_linewidth(0.6)
    size = 9 if len(panel.labels) > 400 else 16
    for label in range(len(panel.classes)):
        own = panel.places[panel.labels == label]
        color, marker = CYCLE[label % len(CYCLE)], MARKERS[label % len(MARKERS)]
        axes.scatter(own[:, 0], own[:, 1], s=size, linewidths=0, alpha=0.75, color=color, marker=marker)
    for label, name in enumerate(panel.classes):
        own = panel.places[panel.labels == label]
        if len(own):
            x, y = np.median(own, axis=0)
            text = axes.text(x, y, shortened(name, _NAME), ha="center", va="center", fontsize=TEXT, color=INK)
            text.set_fontweight("bold")
            text.set_path_effects([Stroke(linewidth=2.4, foreground="white"), Normal()])
