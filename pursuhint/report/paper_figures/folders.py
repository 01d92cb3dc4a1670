"""Names of folders in figures, and the analysis that a folder is or holds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pursuhint.analysis.result import Analysis
from pursuhint.errors import PursuhintError


def short_names(folders: Sequence[Path]) -> list[str]:
    """The ends of paths that tell them apart: ``at`` and ``kd``, also of ``at/seed-0`` and ``kd/seed-0``."""
    parts = [folder.resolve().parts[1:] or ("/",) for folder in folders]
    while len(parts) > 1 and len({own[-1] for own in parts}) == 1 and min(map(len, parts)) > 1:
        parts = [own[:-1] for own in parts]
    names = []
    for own in parts:
        length = 1
        while length < len(own) and sum(other[-length:] == own[-length:] for other in parts) > 1:
            length += 1
        names.append("/".join(own[-length:]))
    return names


def find_analysis(folder: Path) -> Analysis | None:
    """The analysis in a folder, or that of the run, comparison or demo there; None if there is none.

    Raises:
        PursuhintError: it is damaged.
    """
    for place in (folder, folder / "analysis"):
        if (place / "analysis.json").exists():
            return Analysis.load(place)
    return None


def load_analysis(folder: Path) -> Analysis:
    """As `find_analysis`.

    Raises:
        PursuhintError: there is none, or it is damaged.
    """
    found = find_analysis(folder)
    if found is None:
        raise PursuhintError(
            f"{folder} holds no analysis (looked for analysis.json and analysis/analysis.json); "
            "pursuhint analyze --out DIR writes one"
        )
    return found
