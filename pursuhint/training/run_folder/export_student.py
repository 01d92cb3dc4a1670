"""Export the student of a run folder for other programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pursuhint._version import __version__
from pursuhint.errors import PursuhintError
from pursuhint.models.export import Exported, Normalized, export_network

if TYPE_CHECKING:
    from pursuhint.training.run_folder.record import RunRecord

__all__ = ["export_run"]


def export_run(
    record: RunRecord,
    format: str,
    path: Path | str | None = None,
    *,
    weights: str = "last",
    include_normalization: bool = False,
    trust_code: bool = False,
) -> Exported:
    """Export the student of a run as one file.

    Args:
        record: a run with at least one finished epoch.
        format: a name of `pursuhint.models.FORMATS`.
        path: the file; None for ``student.FORMAT`` (``best.FORMAT``) in the run folder, which holds the
            weights alone already.
        weights: ``"last"`` or ``"best"``.
        include_normalization: include the normalisation of training, so that the exported program takes
            images scaled to [0, 1]. Needs the data; not for ``safetensors``.
        trust_code: see `RunRecord.load_student`.

    Raises:
        PursuhintError: as `RunRecord.load_student` and `pursuhint.models.export_network`; or the data set,
            which holds mean and standard deviation, is missing.
    """
    if format == "safetensors" and include_normalization:
        raise PursuhintError("safetensors holds weights and no program; leave out the normalisation")
    stem = "student" if weights == "last" else "best"
    if path is None:
        path = record.path / f"{stem}.{format}"
        if path.suffix == ".safetensors":
            raise PursuhintError(f"the run has its weights in {path} already; say where to copy them (--out)")
    network = record.load_student(weights, trust_code=trust_code)
    sizes = record.environment["data"]
    if include_normalization:
        data = record.load_data()
        network = Normalized(network, data.mean, data.std).eval()
    metadata = {
        "producer": f"pursuhint {__version__}",
        "network": record.recipe.student.network,
        "data": sizes["name"],
        "weights": f"{weights} epoch",
        "images": "scaled to [0, 1]" if include_normalization else "normalised as in training",
    }
    if "preprocessing" in sizes:  # absent from runs of older versions
        metadata["preprocessing"] = json.dumps(sizes["preprocessing"])
    return export_network(
        network,
        path,
        format=format,
        example=torch.zeros(1, sizes["in_channels"], *sizes["image_size"]),
        metadata=metadata,
    )
