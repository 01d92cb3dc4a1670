"""The files of an analysis: ``analysis.json``, what it found, and ``analysis.npz``, the numbers behind that.

Together they have everything that is needed to cluster and choose again. They are read without torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from pursuhint._util.atomic_files import make_folder, read_json, write_json
from pursuhint._util.json_files import validated
from pursuhint.clustering.agreement import Agreement
from pursuhint.clustering.result import Clustering
from pursuhint.clustering.stability import SelectionStability
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint
from pursuhint.hints.selection import HintSelector, Resampled, StoredSimilarity
from pursuhint.similarity.archive import read_archive, write_archive

__all__ = ["StoredAnalysis"]

SCHEMA = 1
_ARRAYS = ("values", "left_out", "halves")


@dataclass(frozen=True)
class AnalysisSeconds:
    """Where the time went, in seconds (the paper's Table 1 has the first and the last two, for its code).

    Attributes:
        collect: the whole pass over the data.
        data: waiting for batches.
        forward: running the network and averaging features over space.
        accumulate: adding features to the moments.
        similarity: by metric, from moments to a matrix.
        clustering: by metric asked for: all algorithms at the chosen k, and the curves over k.
        stability: by metric, from the statistics of the parts to resampled matrices, and for those asked for
            the choices made again. Of a metric that compares all pairs of samples the matrices of all parts
            come from one pass over the pairs, which counts as similarity.
    """

    collect: float
    data: float
    forward: float
    accumulate: float
    similarity: dict[str, float]
    clustering: dict[str, float]
    stability: dict[str, float] = field(default_factory=dict)

    @property
    def over_forward(self) -> float:
        """Everything that the analysis adds to the forward pass, as a fraction of the forward pass."""
        tables = (self.similarity, self.clustering, self.stability)
        added = self.accumulate + sum(sum(table.values()) for table in tables)
        return added / self.forward


class AnalysisFile(BaseModel):
    """analysis.json. Its entry ``summary`` is for readers, and is computed again from the rest.

    Attributes are those of `pursuhint.analysis.Analysis`, and:

        similarities: the metrics whose matrices ``analysis.npz`` has.
        clustered_with: by metric, the one that is clustered in its place.
        arrays: BLAKE2b digest of ``analysis.npz``, which says that the two belong together.
        with_pre: whether the folder ``pre`` has the analysis of the features before the activations.
    """

    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    network: str
    data: str
    points: list[HintPoint]
    excluded: list[str]
    metrics: list[str]
    similarities: list[str]
    clustered_with: dict[str, str]
    clusterings: dict[str, dict[str, Clustering]]
    curves: dict[str, dict[str, dict[int, float]]]
    silhouettes: dict[str, dict[str, dict[int, float]]]
    num_samples: int
    seed: int
    normalize: bool
    batch_size: int
    device: str
    threads: int
    seconds: AnalysisSeconds
    pooling: str
    autocast: str | None
    processes: int
    stability: dict[str, SelectionStability]
    no_stability: str = ""
    agreements: list[Agreement]
    with_pre: bool
    arrays: str = ""

    @property
    def candidates(self) -> tuple[HintPoint, ...]:
        """The layers of the matrices."""
        return tuple(point for point in self.points if point.module not in self.excluded)


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
    write_archive(path, {"schema": SCHEMA, "kind": "analysis"}, {"samples": samples, **arrays})
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
    file = validated(AnalysisFile, read_json(path, "analysis"), f"the analysis {path}")
    points, similarities = file.candidates, {}
    with read_archive(path.with_suffix(".npz"), "set of similarities", SCHEMA) as (_, arrays):
        if _digest(path.with_suffix(".npz")) != file.arrays:
            raise PursuhintError("analysis.json belongs to another one")
        for metric in file.similarities:
            values, left_out, halves = (arrays.get(f"{name} {metric}") for name in _ARRAYS)
            if values is None or values.shape != (len(points), len(points)):
                raise PursuhintError(f"no similarities of {len(points)} layers by {metric}")
            similarities[metric] = StoredSimilarity(
                points, values, metric, file.num_samples, left_out, halves
            )
        return file, similarities, arrays["samples"]


def _digest(path: Path) -> str:
    return hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()


@dataclass(frozen=True, eq=False)
class StoredAnalysis(HintSelector):
    """What an analysis left behind, for choosing again: read in no time, since nothing of it is a tensor.

    Attributes are those of `pursuhint.analysis.Analysis`.
    """

    metrics: tuple[str, ...]
    candidates: tuple[HintPoint, ...]
    similarities: Mapping[str, StoredSimilarity]
    clustered_with: Mapping[str, str]
    curves: Mapping[str, Mapping[str, Mapping[int, float]]]
    silhouettes: Mapping[str, Mapping[str, Mapping[int, float]]]
    normalize: bool
    seed: int

    @classmethod
    def load(cls, folder: Path | str) -> StoredAnalysis:
        """Read what `pursuhint.analysis.Analysis.save` wrote.

        Raises:
            PursuhintError: as `read_analysis`.
        """
        file, similarities, _ = read_analysis(folder)
        return cls(
            tuple(file.metrics),
            file.candidates,
            similarities,
            file.clustered_with,
            file.curves,
            file.silhouettes,
            file.normalize,
            file.seed,
        )
