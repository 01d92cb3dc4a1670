"""Similarity of every pair of layers of a network, with the layers' hint points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pursuhint._util.shown import Shown, draw_matrix
from pursuhint.errors import PursuhintError
from pursuhint.features.hint_points import HintPoint
from pursuhint.similarity.archive import read_archive, write_archive

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["LayerSimilarity"]

SCHEMA = 1


@dataclass(frozen=True, eq=False, repr=False)
class LayerSimilarity(Shown):
    """Similarity of every pair of layers, in depth order.

    Attributes:
        points: the layers.
        values: (layers, layers), float64.
        metric: name of the metric, as in `pursuhint.similarity.METRICS`.
        num_samples: number of images.
        left_out: similarities with each random shard of the images left out in turn, (shards, layers,
            layers), float32; None if not computed. NaN where a layer does not vary without the shard.
        halves: similarities on random halves of the shards, (halves, layers, layers), float32; or None.

    Raises:
        PursuhintError: a matrix does not have one row and one column a layer.
    """

    points: tuple[HintPoint, ...]
    values: Tensor
    metric: str
    num_samples: int
    left_out: Tensor | None = None
    halves: Tensor | None = None

    def __post_init__(self) -> None:
        for matrices in (self.values, self.left_out, self.halves):
            if matrices is not None and matrices.shape[-2:] != (len(self.points), len(self.points)):
                raise PursuhintError(
                    f"{len(self.points)} layers but similarities of shape {tuple(matrices.shape)}"
                )

    def __len__(self) -> int:
        return len(self.points)

    def _headline(self) -> str:
        return f"{self.metric} of {len(self)} layers, {self.num_samples} images"

    def _draw(self, axes: Axes) -> None:
        positions = [point.position for point in self.points]
        draw_matrix(axes, self.values, positions, positions)
        axes.set(xlabel="layer", ylabel="layer", title=self.metric)
        axes.title.set_parse_math(False)

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {"first": a.position, "second": b.position, "similarity": float(self.values[i, j])}
            for i, a in enumerate(self.points)
            for j, b in enumerate(self.points)
        ]

    def subset(self, indices: Sequence[int]) -> LayerSimilarity:
        """The similarity of some of the layers, given by index from 0."""
        chosen = list(indices)
        values, left_out, halves = (
            None if matrices is None else matrices[..., chosen, :][..., chosen]
            for matrices in (self.values, self.left_out, self.halves)
        )
        assert values is not None
        points = tuple(self.points[i] for i in chosen)
        return LayerSimilarity(points, values, self.metric, self.num_samples, left_out, halves)

    @property
    def standard_error(self) -> Tensor | None:
        r"""Standard error of every entry, (layers, layers), float64; None without ``left_out``.

        Standard deviation over draws of as many images, estimated by the grouped jackknife: with
        :math:`\theta_{(g)}` the similarity without shard g of G and a bar for the mean,

        .. math:: \sqrt{\frac{G - 1}{G} \sum_g \left(\theta_{(g)} - \bar\theta\right)^2} .

        Reference: B. Efron, The Jackknife, the Bootstrap and Other Resampling Plans, SIAM 1982.
        """
        if self.left_out is None:
            return None
        parts = len(self.left_out)
        values = self.left_out.double()
        return ((parts - 1) / parts * (values - values.mean(0)).square().sum(0)).sqrt()

    def save(self, path: Path | str) -> None:
        """Write an ``.npz`` file: the arrays ``values``, ``left_out`` and ``halves`` (the last two if there
        are any), and a JSON text ``header`` with everything else.

        Raises:
            PursuhintError: the file cannot be written.
        """
        header = {
            "schema": SCHEMA,
            "metric": self.metric,
            "num_samples": self.num_samples,
            "points": [point.to_dict() for point in self.points],
        }
        arrays = {"values": self.values, "left_out": self.left_out, "halves": self.halves}
        write_archive(path, header, arrays)

    @classmethod
    def load(cls, path: Path | str) -> LayerSimilarity:
        """Load a saved similarity. Nothing in the file can run code.

        Raises:
            PursuhintError: the file is missing, damaged or of another kind.
        """
        with read_archive(path, "layer similarity", SCHEMA) as (header, arrays):
            points = tuple(HintPoint.from_dict(point) for point in header["points"])
            left_out, halves = (
                torch.from_numpy(arrays[name]).float() if name in arrays else None
                for name in ("left_out", "halves")
            )
            values, metric = torch.from_numpy(arrays["values"]).double(), str(header["metric"])
            return cls(points, values, metric, int(header["num_samples"]), left_out, halves)
