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

from pursuhint._util.atomic_files import make_folder, read_json, write_json
from pursuhint._util.json_files import validated
from pursuhint.analysis.findings import AnalysisSeconds, AnalyzedLayers, ChoiceRobustness, LayerClusters
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
    arrays: str = ""


def write_analysis(
    folder: Path | str,
    file: AnalysisFile,
    summary: Mapping[str, Any],
    similarities: Mapping[str, Resampled],
    samples: Any,
) -> None:
    """Write ``analysis.npz`` and, when it is there, ``analysis.json``.

    Args:
        folder: made if it is not there.
        file: what the analysis found.
        summary: the same for readers.
        similarities: by metric.
        samples: indices of the samples, a tensor or an array.

    Raises:
        PursuhintError: the folder cannot be written.
    """
    path = make_folder(folder) / "analysis.npz"
    arrays = {
        f"{name} {metric}": getattr(similarity, name)
        for metric, similarity in similarities.items()
        for name in _ARRAYS
    }
    write_archive(path, {"schema": ARRAYS_SCHEMA, "kind": "analysis"}, {"samples": samples, **arrays})
    values = file.model_copy(update={"arrays": _digest(path)}).model_dump(mode="json", by_alias=True)
    write_json(path.with_suffix(".json"), {**values, "summary": dict(summary)})


def read_analysis(
    folder: Path | str,
) -> tuple[AnalysisFile, dict[str, StoredSimilarity], NDArray[Any]]:
    """Read what `write_analysis` wrote. Nothing in the files can run code.

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

    @classmethod
    def load(cls, folder: Path | str) -> StoredAnalysis:
        """Read what `pursuhint.analysis.Analysis.save` wrote.

        Raises:
            PursuhintError: as `read_analysis`.
        """
        file, similarities, _ = read_analysis(folder)
        return cls(file.provenance, file.layers, similarities, file.clusters)
