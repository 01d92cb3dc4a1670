"""Similarity of every pair of layers of a network, with what the layers are."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pursuhint.errors import PursuhintError
from pursuhint.files import atomic_path
from pursuhint.points import HintPoint

__all__ = ["LayerSimilarity"]

SCHEMA = 1


@dataclass(frozen=True, eq=False)
class LayerSimilarity:
    """Similarity of every pair of layers, in depth order.

    Attributes:
        points: the layers.
        values: (layers, layers), float64.
        metric: name of the metric, as in `pursuhint.similarity.METRICS`.
        num_samples: how many images it was measured on.

    Raises:
        PursuhintError: the matrix does not have one row and one column a layer.
    """

    points: tuple[HintPoint, ...]
    values: Tensor
    metric: str
    num_samples: int

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.points), len(self.points)):
            raise PursuhintError(
                f"{len(self.points)} layers but similarities of shape {tuple(self.values.shape)}"
            )

    def __len__(self) -> int:
        return len(self.points)

    def subset(self, indices: Sequence[int]) -> LayerSimilarity:
        """The same for some of the layers, given by index from 0."""
        chosen = torch.as_tensor(list(indices), dtype=torch.int64, device=self.values.device)
        return LayerSimilarity(
            tuple(self.points[i] for i in indices),
            self.values[chosen][:, chosen],
            self.metric,
            self.num_samples,
        )

    def save(self, path: Path | str) -> None:
        """Write an ``.npz`` file: the array ``values`` and a JSON text ``header`` with everything else.

        Raises:
            PursuhintError: the file cannot be written.
        """
        header = {
            "schema": SCHEMA,
            "metric": self.metric,
            "num_samples": self.num_samples,
            "points": [point.to_dict() for point in self.points],
        }
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            np.savez(file, values=self.values.cpu().numpy(), header=np.array(json.dumps(header)))

    @classmethod
    def load(cls, path: Path | str) -> LayerSimilarity:
        """Read what `save` wrote. Nothing in the file can run code.

        Raises:
            PursuhintError: the file is missing, damaged or of another kind.
        """
        path = Path(path)
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
                header = json.loads(str(arrays["header"]))
                values = torch.from_numpy(arrays["values"].astype(np.float64))
            if (schema := header["schema"]) != SCHEMA:
                raise ValueError(f"it has schema {schema}; this version of PursuHint reads schema {SCHEMA}")
            points = tuple(HintPoint.from_dict(point) for point in header["points"])
            return cls(points, values, str(header["metric"]), int(header["num_samples"]))
        except FileNotFoundError:
            raise PursuhintError(f"no layer similarity at {path}; the file does not exist") from None
        except OSError as error:
            reason = error.strerror or str(error)
            raise PursuhintError(f"cannot read the layer similarity {path}: {reason}") from error
        except (
            EOFError, KeyError, TypeError, ValueError, zipfile.BadZipFile, zlib.error, PursuhintError
        ) as error:  # fmt: skip
            raise PursuhintError(
                f"{path} is not a layer similarity of PursuHint, or damaged: {error}"
            ) from error
