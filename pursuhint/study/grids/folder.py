"""The folder of a grid: ``grid.json``, the leases, and which cells are finished."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pursuhint._util.atomic_files import make_folder, read_json, write_json
from pursuhint._util.lease import exclusive
from pursuhint._util.output_folder import claim_folder
from pursuhint._util.replace_folder import DifferentResult, check_replaceable, remove_result
from pursuhint.errors import PursuhintError
from pursuhint.study.grids.cells import WEIGHTS, GridOptions

FILE = "grid.json"
LEASES = "leases"


def is_finished(folder: Path) -> bool:
    """Whether a cell has its result and its weights."""
    return (folder / "result.json").is_file() and (folder / WEIGHTS).is_file()


def claim(folder: Path, options: GridOptions, grid: Mapping[str, Any]) -> None:
    """Make the folder and note in ``grid.json`` what is changed in all of its cells, and the grid.

    Args:
        folder: of the cells.
        options: what is changed; the same for all grids of a folder.
        grid: its name, and what the file says of it.

    Raises:
        PursuhintError: the folder holds something else, or cells with other settings.
    """
    claim_folder(folder, "grid")
    make_folder(folder)
    changed = {
        "data": options.data,
        "epochs": options.epochs,
        "assignments": list(options.assignments),
        "teachers": {name: str(Path(file).absolute()) for name, file in options.teachers.items()},
    }
    with exclusive(folder / LEASES):
        path = folder / FILE
        known = read_json(path, "description of the grid") if path.exists() else {}
        if not isinstance(known, dict) or not isinstance(known.get("changed", {}), dict):
            raise PursuhintError(f"the description of the grid {path} is damaged; remove it to write it anew")
        before = known.get("changed", changed)
        if before != changed and options.overwrite:
            check_replaceable(folder, "grid", cells=_folders_of_cells(known))
            remove_result(folder, "grid", keep=(LEASES,))
            known = {}
        elif before != changed:
            names = [name for name, value in changed.items() if before.get(name) != value]
            were = ", ".join(f"{name}: {before.get(name)}" for name in names)
            raise DifferentResult(
                f"the cells in {folder} were begun with other settings ({were}); give the same, or another "
                "folder (--out), or replace them (--overwrite)"
            )
        values = {"changed": changed, "grids": {**known.get("grids", {}), **grid}}
        if known != values:
            write_json(path, values)


def _folders_of_cells(known: Mapping[str, Any]) -> frozenset[str]:
    """Names of the folders that hold the cells of all grids of ``grid.json``."""
    grids = known.get("grids")
    entries = grids.values() if isinstance(grids, dict) else ()
    cells = [entry.get("cells") for entry in entries if isinstance(entry, dict)]
    return frozenset(str(place).split("/")[0] for each in cells if isinstance(each, dict) for place in each)
