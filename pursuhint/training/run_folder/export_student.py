"""Export the student of a run folder for other programs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
        format: a name of `pursuhint.models.export.FORMATS`.
        path: the file; None for ``student.FORMAT`` (``best.FORMAT``) in the run folder, which holds the
            weights alone already.
        weights: ``"last"`` or ``"best"``.
        include_normalization: include the normalisation of training, so that the exported program takes
            images scaled to [0, 1]; not for ``safetensors``.
        trust_code: see `RunRecord.load_student`.

    Raises:
        PursuhintError: as `RunRecord.load_student` and `pursuhint.models.export_network`; or the data
            are missing that a run of an old version needs for mean and deviation.
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
    preprocessing = sizes.get("preprocessing") or _of_the_data(record)
    if include_normalization:
        network = Normalized(network, preprocessing["mean"], preprocessing["std"]).eval()
    about = {
        "producer": f"pursuhint {__version__}",
        "network": record.recipe.student.network,
        "data": sizes["name"],
        "weights": f"{weights} epoch",
    }
    return export_network(
        network,
        path,
        format=format,
        example=torch.zeros(1, sizes["in_channels"], *sizes["image_size"]),
        metadata=about
        | input_metadata(preprocessing, sizes.get("class_names", ()), normalizes=include_normalization),
    )


def _of_the_data(record: RunRecord) -> dict[str, Any]:
    """How the images of a run become its input, for runs of old versions, which only their data say."""
    try:
        return record.load_data().preprocessing.to_dict()
    except PursuhintError as error:
        raise PursuhintError(
            f"{record.path} is of an older version and keeps no mean and deviation, so its data are needed: "
            f"{error} (pursuhint evaluate {record.path} --download fetches what can be fetched)"
        ) from None


def input_metadata(
    preprocessing: Mapping[str, Any], class_names: Sequence[str], *, normalizes: bool
) -> dict[str, str]:
    """What a program that reads an exported file has to know of images and classes.

    ``preprocessing`` is that of `pursuhint.data.Preprocessing` as JSON, ``class_names`` a JSON list in the
    order of the logits, ``images`` a sentence for people. A reader that subtracts ``preprocessing.mean`` and
    divides by ``preprocessing.std`` is right in any case: where the file normalises by itself they are 0 and
    1, and ``included_normalization`` has the constants inside.

    Args:
        preprocessing: of the data that the student was trained on, as `Preprocessing.to_dict` gives it.
        class_names: in the order of the logits; empty if the run does not know them.
        normalizes: whether the exported program begins with the normalisation.
    """
    scaled = preprocessing.get("value_range", (0.0, 1.0)) is not None
    units = "scaled to [0, 1]" if scaled else "in the units of the training images"
    metadata = {"images": units if normalizes else "normalised as in training"}
    if normalizes:
        constants = {key: preprocessing[key] for key in ("mean", "std")}
        metadata["included_normalization"] = json.dumps(constants)
        count = len(preprocessing["mean"])
        preprocessing = {
            **preprocessing,
            "mean": [0.0] * count,
            "std": [1.0] * count,
            "source": "the program, which normalises by itself",
        }
    metadata["preprocessing"] = json.dumps(preprocessing)
    if class_names:
        metadata["class_names"] = json.dumps(list(class_names))
    return metadata
