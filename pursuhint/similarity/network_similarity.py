"""Similarity of the layers of one network to those of another."""

from __future__ import annotations

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

__all__ = ["NetworkSimilarity"]

SCHEMA = 1
KIND = "network similarity"


@dataclass(frozen=True, eq=False, repr=False)
class NetworkSimilarity(Shown):
    """Similarity of every layer of a teacher to every layer of a student, both in depth order.

    Attributes:
        teacher_points: layers of the teacher.
        student_points: layers of the student.
        values: (teacher layers, student layers), float64. NaN in the rows and columns of layers that do not
            vary. By a metric that is not symmetric, the teacher's view of the student.
        metric: name of the metric, as in `pursuhint.similarity.METRICS`.
        num_samples: number of images.

    Raises:
        PursuhintError: the matrix does not have one row a teacher's layer and one column a student's.
    """

    teacher_points: tuple[HintPoint, ...]
    student_points: tuple[HintPoint, ...]
    values: Tensor
    metric: str
    num_samples: int

    def __post_init__(self) -> None:
        if self.values.shape != (len(self.teacher_points), len(self.student_points)):
            raise PursuhintError(
                f"{len(self.teacher_points)} layers of the teacher and {len(self.student_points)} of the "
                f"student, but similarities of shape {tuple(self.values.shape)}"
            )

    def _headline(self) -> str:
        teacher, student = self.values.shape
        return f"{self.metric} of {teacher} x {student} layers, {self.num_samples} images"

    def _draw(self, axes: Axes) -> None:
        teacher = [point.position for point in self.teacher_points]
        draw_matrix(axes, self.values, teacher, [point.position for point in self.student_points])
        axes.set(xlabel="layer of the student", ylabel="layer of the teacher", title=self.metric)
        axes.title.set_parse_math(False)

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {"teacher": a.position, "student": b.position, "similarity": float(self.values[i, j])}
            for i, a in enumerate(self.teacher_points)
            for j, b in enumerate(self.student_points)
        ]

    def save(self, path: Path | str) -> None:
        """Write an ``.npz`` file: the array ``values`` and a JSON text ``header`` with everything else.

        Raises:
            PursuhintError: the file cannot be written.
        """
        header = {
            "schema": SCHEMA,
            "kind": KIND,
            "metric": self.metric,
            "num_samples": self.num_samples,
            "teacher_points": [point.to_dict() for point in self.teacher_points],
            "student_points": [point.to_dict() for point in self.student_points],
        }
        write_archive(path, header, {"values": self.values})

    @classmethod
    def load(cls, path: Path | str) -> NetworkSimilarity:
        """Load a saved similarity. Nothing in the file can run code.

        Raises:
            PursuhintError: the file is missing, damaged or of another kind.
        """
        with read_archive(path, KIND, SCHEMA) as (header, arrays):
            return cls(
                tuple(HintPoint.from_dict(point) for point in header["teacher_points"]),
                tuple(HintPoint.from_dict(point) for point in header["student_points"]),
                torch.from_numpy(arrays["values"]).double(),
                str(header["metric"]),
                int(header["num_samples"]),
            )
