"""Data of the interactive maps of the HTML page, as the JSON that its script reads (``heatmap.js``)."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
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
        label: description of the map for screen readers.
        errors: standard error of every value; None leaves them out.
    """
    matrix = np.asarray(values, dtype=float)
    entry = _map("", matrix, color_range([matrix]))
    if errors is not None:
        entry["errors"] = _rounded(np.asarray(errors, dtype=float))
    return _as_json([entry], metric=metric, label=label, rows=[_layer_facts(layer) for layer in layers])


def live_map_of_networks(
    moments: Mapping[str, ArrayLike],
    teacher: Sequence[Layer],
    student: Sequence[Layer],
    *,
    metric: str,
    label: str,
    pairs: Sequence[tuple[int, int]] = (),
) -> str:
    """Similarity of every layer of a teacher to every layer of a student, at one or two moments of training.

    With two moments a third map shows the change from the first to the second.

    Args:
        moments: by heading, similarities of shape (teacher layers, student layers).
        teacher: facts about each layer of the teacher.
        student: facts about each layer of the student.
        metric: name of the metric.
        label: description of the map for screen readers.
        pairs: indices from 0 of the layers of each hint, teacher first.
    """
    maps = [np.asarray(values, dtype=float) for values in moments.values()]
    scale = color_range(maps)
    entries = [_map(heading, matrix, scale) for heading, matrix in zip(moments, maps)]
    if len(maps) == 2:
        change = maps[1] - maps[0]
        limit = max(float(np.nanmax(np.abs(change), initial=0.0)), 0.01)
        entries.append(_map("change", change, (-limit, limit), shades="PuOr_r"))
        entries[-1]["measure"] = f"change of {metric}"
    rows = [_layer_facts(layer, "teacher ") for layer in teacher]
    columns = [_layer_facts(layer, "student ") for layer in student]
    return _as_json(entries, metric=metric, label=label, rows=rows, columns=columns, pairs=pairs)


def script() -> str:
    """The JavaScript that makes the maps of a page interactive."""
    return (
        resources.files("pursuhint.report.figures").joinpath("heatmap.js").read_text(encoding="utf-8").strip()
    )


def script_hash() -> str:
    """Hash of `script` for the page's security policy, so that a browser runs no other script."""
    digest = hashlib.sha256(script().encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _as_json(
    maps: list[dict[str, Any]],
    *,
    metric: str,
    label: str,
    rows: list[dict[str, Any]],
    columns: list[dict[str, Any]] | None = None,
    pairs: Sequence[tuple[int, int]] = (),
) -> str:
    """The text that the script reads; without ``columns`` they are the rows."""
    content = {
        "metric": metric,
        "label": label,
        "maps": maps,
        "rows": rows,
        "columns": columns,
        "pairs": [list(pair) for pair in pairs],
    }
    return json.dumps(content, separators=(",", ":"), allow_nan=False)


def color_range(maps: Sequence[NDArray[np.float64]]) -> tuple[float, float]:
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
