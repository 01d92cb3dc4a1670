"""Data of the interactive maps of the HTML page, as the JSON that its script reads (``heatmap.js``)."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import to_hex
from numpy.typing import ArrayLike, NDArray

from pursuhint.report.figures.drawing import cluster_colors, cluster_letter

_SHADES = 64
_DIGITS = 4


@dataclass(frozen=True)
class Layer:
    """Facts about a layer that a map shows.

    Attributes:
        name: of its module.
        position: counted from 1.
        stage: resolution stage; None leaves stages out.
        cluster: its cluster, from 0; None leaves clusters out.
        chosen: whether it is a hint position.
        conventional: whether convention would choose it.
        frequency: share of half-samples in which it was chosen; None leaves shares out.
    """

    name: str
    position: int
    stage: int | None = None
    cluster: int | None = None
    chosen: bool = False
    conventional: bool = False
    frequency: float | None = None


def live_map_of_layers(
    values: ArrayLike, layers: Sequence[Layer], *, metric: str, label: str, errors: ArrayLike | None = None
) -> str:
    """Similarity of every pair of layers of a network.

    Args:
        values: (layers, layers).
        layers: facts about each layer.
        metric: name of the metric.
        label: what the map shows, for those who cannot see it.
        errors: standard error of every value; None leaves them out.
    """
    matrix = np.asarray(values, dtype=float)
    entry = _map("", matrix, _scale([matrix]))
    if errors is not None:
        entry["errors"] = _rounded(np.asarray(errors, dtype=float))
    return _text(metric, label, [entry], [_layer_facts(layer) for layer in layers], None, ())


def live_map_of_networks(
    before: ArrayLike,
    after: ArrayLike | None,
    teacher: Sequence[Layer],
    student: Sequence[Layer],
    *,
    metric: str,
    label: str,
    pairs: Sequence[tuple[int, int]] = (),
    labels: tuple[str, str] = ("before distillation", "after distillation"),
) -> str:
    """Similarity of every layer of a teacher to every layer of a student, to be switched between moments.

    Args:
        before: (teacher layers, student layers).
        after: similarities after distillation; None shows one map alone.
        teacher: facts about each layer of the teacher.
        student: facts about each layer of the student.
        metric: name of the metric.
        label: what the map shows, for those who cannot see it.
        pairs: indices from 0 of the layers of each hint, teacher first.
        labels: what the two moments are called.
    """
    maps = [np.asarray(values, dtype=float) for values in (before, after) if values is not None]
    scale = _scale(maps)
    entries = [_map(text, matrix, scale) for text, matrix in zip(labels, maps)]
    if len(maps) == 2:
        change = maps[1] - maps[0]
        limit = max(float(np.nanmax(np.abs(change), initial=0.0)), 0.01)
        entries.append(_map("change", change, (-limit, limit), shades="PuOr_r"))
        entries[-1]["measure"] = f"change of {metric}"
    rows = [_layer_facts(layer, "teacher ") for layer in teacher]
    columns = [_layer_facts(layer, "student ") for layer in student]
    return _text(metric, label, entries, rows, columns, pairs)


def script() -> str:
    """The program that makes the maps of a page interactive."""
    return (
        resources.files("pursuhint.report.figures").joinpath("heatmap.js").read_text(encoding="utf-8").strip()
    )


def script_hash() -> str:
    """What a page's security policy calls the program, so that a browser runs no other."""
    digest = hashlib.sha256(script().encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _text(
    metric: str,
    label: str,
    maps: list[dict[str, Any]],
    rows: list[dict[str, Any]],
    columns: list[dict[str, Any]] | None,
    pairs: Sequence[tuple[int, int]],
) -> str:
    content = {
        "metric": metric,
        "label": label,
        "maps": maps,
        "rows": rows,
        "columns": columns,
        "pairs": [list(pair) for pair in pairs],
    }
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def _scale(maps: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
    """From the smallest value, rounded down to a tenth, to 1, as in the pictures."""
    known = np.concatenate([matrix[np.isfinite(matrix)] for matrix in maps])
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    return min(math.floor(low * 10) / 10, 0.9), max(1.0, high)


def _map(
    label: str, matrix: NDArray[np.float64], scale: tuple[float, float], *, shades: str = "viridis"
) -> dict[str, Any]:
    colors = [to_hex(color) for color in colormaps[shades](np.linspace(0, 1, _SHADES))]
    low, high = scale
    return {"label": label, "values": _rounded(matrix), "low": low, "high": high, "colors": colors}


def _rounded(matrix: NDArray[np.float64]) -> list[list[float | None]]:
    return [
        [round(value, _DIGITS) if math.isfinite(value) else None for value in row] for row in matrix.tolist()
    ]


def _layer_facts(layer: Layer, role: str = "") -> dict[str, Any]:
    """Facts about a layer under the keys that the script reads; unknown facts are left out."""
    facts: dict[str, Any] = {"name": f"{role}{layer.name}", "position": layer.position}
    if layer.stage is not None:
        facts["stage"] = layer.stage
    if layer.cluster is not None:
        facts["cluster"] = cluster_letter(layer.cluster)
        facts["color"] = cluster_colors([layer.cluster])[0]
    if layer.chosen:
        facts["chosen"] = True
    if layer.conventional:
        facts["conventional"] = True
    if layer.frequency is not None:
        facts["frequency"] = round(layer.frequency, _DIGITS)
    return facts
