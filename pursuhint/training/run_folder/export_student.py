"""Export the student of a run folder for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pursuhint.errors import PursuhintError
from pursuhint.models.export import Exported, Normalized, export_network
from pursuhint.training.run_folder.file_metadata import file_metadata, input_metadata, text_metadata
from pursuhint.training.run_folder.text_input import example_of_tokens, is_of_texts, tokenizer_text

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
    sizes = record.environment["data"]
    about = file_metadata(record.recipe.student.network, sizes["name"], weights)
    if is_of_texts(record):
        if include_normalization:
            raise PursuhintError(
                f"the run {record.path} was trained on texts, which are not normalised; leave the "
                "normalisation out"
            )
        return export_network(
            record.load_student(weights, trust_code=trust_code),
            path,
            format=format,
            example=example_of_tokens(record),
            metadata=about | text_metadata(tokenizer_text(record), sizes.get("class_names", ())),
        )
    network = record.load_student(weights, trust_code=trust_code)
    preprocessing = preprocessing_of(record)
    if include_normalization:
        network = Normalized(network, preprocessing["mean"], preprocessing["std"]).eval()
    return export_network(
        network,
        path,
        format=format,
        example=torch.zeros(1, sizes["in_channels"], *sizes["image_size"]),
        metadata=about
        | input_metadata(preprocessing, sizes.get("class_names", ()), normalizes=include_normalization),
    )


def preprocessing_of(record: RunRecord) -> dict[str, Any]:
    """How the images of a run become its input; of a run of an old version, only its data say it.

    Raises:
        PursuhintError: its samples are no images; or the run is old, and its data are missing.
    """
    described = record.environment["data"]
    if described.get("preprocessing"):
        return dict(described["preprocessing"])
    if "preprocessing" in described:
        raise PursuhintError(
            f"the run {record.path} was trained on samples that are no images; load its weights "
            "(student.safetensors) into the network yourself"
        )
    try:
        return record.load_images().preprocessing.to_dict()
    except PursuhintError as error:
        raise PursuhintError(
            f"{record.path} is of an older version and keeps no mean and deviation, so its data are needed: "
            f"{error} (pursuhint evaluate {record.path} --download fetches what can be fetched)"
        ) from None
