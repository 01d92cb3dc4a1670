"""The files of an analysis: ``analysis.json``, what it found, and ``analysis.npz``, the numbers behind that.

Together they have everything that is needed to cluster and choose again. They are read without torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pursuhint._util.atomic_files import read_json, write_json
from pursuhint._util.json_files import validated
from pursuhint._util.output_folder import claim_folder
from pursuhint.analysis.auto_samples import AutoSampling
from pursuhint.analysis.findings import (
    AnalysisSeconds,
    AnalyzedLayers,
    ChoiceRobustness,
    ClassCurves,
    LayerClusters,
)
from pursuhint.analysis.provenance import Provenance
from pursuhint.analysis.selector import HintSelector
from pursuhint.errors import PursuhintError
from pursuhint.hints.selection import Resampled, StoredSimilarity
from pursuhint.similarity.archive import read_archive, write_archive

__all__ = ["StoredAnalysis"]

ARRAYS_SCHEMA = 1
_ARRAYS = ("values", "left_out", "halves")


class AnalysisFile(BaseModel):
    """analysis.json. Its entry ``summary`` is for readers, and is computed again from the rest.

    Attributes are those of `pursuhint.analysis.Analysis`, and:

        similarities: the metrics whose matrices ``analysis.npz`` has.
        with_pre: whether the folder ``pre`` has the analysis of the features before the activations.
        arrays: BLAKE2b digest of ``analysis.npz``, which says that the two belong together.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    schema_version: Literal[2] = Field(default=2, alias="schema")
    provenance: Provenance
    layers: AnalyzedLayers
    similarities: list[str]
    clusters: LayerClusters
    robustness: ChoiceRobustness
    seconds: AnalysisSeconds
    with_pre: bool
    class_curves: ClassCurves | None = None
    no_class_curves: str = ""
    auto: AutoSampling | None = None
    arrays: str = ""


def write_arrays(path: Path, similarities: Mapping[str, Resampled], samples: Any) -> None:
    """Write ``analysis.npz``.

    Args:
        path: the file.
        similarities: by metric.
        samples: indices of the samples, a tensor or an array.

    Raises:
        PursuhintError: the file cannot be written.
    """
    arrays = {
        f"{name} {metric}": getattr(similarity, name)
        for metric, similarity in similarities.items()
        for name in _ARRAYS
    }
    write_archive(path, {"schema": ARRAYS_SCHEMA, "kind": "analysis"}, {"samples": samples, **arrays})


def write_findings(path: Path, file: AnalysisFile, summary: Mapping[str, Any]) -> None:
    """Write ``analysis.json`` beside the ``analysis.npz`` that belongs to it.

    Args:
        path: the file.
        file: what the analysis found.
        summary: its results again, in words and numbers for readers.

    Raises:
        PursuhintError: the file cannot be written.
    """
    digest = _digest(path.with_suffix(".npz"))
    values = file.model_copy(update={"arrays": digest}).model_dump(mode="json", by_alias=True)
    write_json(path, {**values, "summary": dict(summary)})


def check_analysis_folder(
    folder: Path | str, *, network: str, fingerprint: str, data: str, overwrite: bool
) -> None:
    """Check that an analysis may be written into a folder.

    Args:
        folder: it need not exist.
        network: name of the analysed network.
        fingerprint: hash of that network.
        data: name of the data set.
        overwrite: replace an analysis of another network or other data.

    Raises:
        PursuhintError: the folder holds something else than an analysis or, without ``overwrite``, one of
            another network or other data.
    """
    folder = Path(folder)
    claim_folder(folder, "analysis")
    path = folder / "analysis.json"
    if overwrite or not path.exists():
        return
    values = read_json(path, "analysis")
    there = values.get("provenance") if isinstance(values, dict) else None
    there = there if isinstance(there, dict) else {}
    here = {"network": network, "network_fingerprint": fingerprint, "data": data}
    for key, value in here.items():
        if there.get(key) != value:
            which = f"{there.get('network')} on {there.get('data')}"
            weights = ", with other weights" if key == "network_fingerprint" else ""
            raise PursuhintError(
                f"{folder} holds the analysis of {which}{weights}, not of {network} on {data}; choose "
                "another folder (--out), or replace it with --overwrite (overwrite=True in Python)"
            )


def read_analysis(
    folder: Path | str,
) -> tuple[AnalysisFile, dict[str, StoredSimilarity], NDArray[Any]]:
    """Read what `write_arrays` and `write_findings` wrote. Nothing in the files can run code.

    Returns:
        What the analysis found, similarities by metric, and indices of the samples.

    Raises:
        PursuhintError: a file is missing, damaged, or does not fit the other.
    """
    path = Path(folder) / "analysis.json"
    file = validated(
        AnalysisFile, read_json(path, "analysis"), f"the analysis {path}", older="analyze the network again"
    )
    points, similarities = file.layers.candidates, {}
    with read_archive(path.with_suffix(".npz"), "set of similarities", ARRAYS_SCHEMA) as (_, arrays):
        if _digest(path.with_suffix(".npz")) != file.arrays:
            raise PursuhintError("analysis.json belongs to another one")
        for metric in file.similarities:
            values, left_out, halves = (arrays.get(f"{name} {metric}") for name in _ARRAYS)
            if values is None or values.shape != (len(points), len(points)):
                raise PursuhintError(f"no similarities of {len(points)} layers by {metric}")
            similarities[metric] = StoredSimilarity(
                points, values, metric, file.provenance.num_samples, left_out, halves
            )
        return file, similarities, arrays["samples"]


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


@dataclass(frozen=True, eq=False)
class StoredAnalysis(HintSelector):
    """A saved analysis loaded as NumPy arrays, so that choosing hint points anew does not import torch.

    Attributes are those of `pursuhint.analysis.Analysis`.
    """

    provenance: Provenance
    layers: AnalyzedLayers
    similarities: Mapping[str, StoredSimilarity]
    clusters: LayerClusters
    robustness: ChoiceRobustness
    class_curves: ClassCurves | None
    no_class_curves: str

    @classmethod
    def load(cls, folder: Path | str) -> StoredAnalysis:
        """Read what `pursuhint.analysis.Analysis.save` wrote.

        Raises:
            PursuhintError: as `read_analysis`.
        """
        file, similarities, _ = read_analysis(folder)
        return cls(
            file.provenance,
            file.layers,
            similarities,
            file.clusters,
            file.robustness,
            file.class_curves,
            file.no_class_curves,
        )
