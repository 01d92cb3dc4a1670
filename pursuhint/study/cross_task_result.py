"""What a cross-task study leaves behind: accuracy by overlap and method, and what lies behind it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from pursuhint._util.shown import Shown, counted
from pursuhint.errors import PursuhintError
from pursuhint.published import Table, published_results
from pursuhint.published.names import DATASETS
from pursuhint.study.finished_study import StudyFile, StudyModel
from pursuhint.study.paired_statistics import PairedComparison, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CrossTaskCell", "CrossTaskOverlap", "CrossTaskResult", "StudentMeasures", "TeacherDoubt"]

_PAPER = "refilled-supplement"
_PUBLISHED = {
    "alone": "vanilla",
    "rkd": "RKD",
    "aml": "AML",
    "refilled-emb": "REFILLED^EMB",
    "refilled-minus": "REFILLED-",
    "refilled": "REFILLED",
}


class StudentMeasures(StudyModel):
    """What the embedding of one student is worth. All are percent of test images.

    A nearest-class-mean classifier takes the class whose direction of mean embedding has the largest product
    with the image's embedding.

    Attributes:
        seed: of the run.
        nearest_mean: accuracy of that classifier on the student's classes after training, with means of
            training images.
        nearest_mean_after_matching: the same after REFILLED's first stage; None for other methods.
        kept_epoch: the epoch of that stage whose student the second stage begins with; None for other
            methods, or for the last.
        nearest_mean_of_test: as ``nearest_mean``, but with means of the very test images, as in the authors'
            code, which is optimistic.
        joint_old: accuracy on images of the teacher's classes, among the classes of teacher and student; None
            at an overlap of 100 %.
        joint_current: accuracy on images of the other classes, among all; None as before.
        joint_mean: the harmonic mean of both; None as before.
    """

    seed: int
    nearest_mean: float
    nearest_mean_after_matching: float | None
    nearest_mean_of_test: float
    joint_old: float | None
    joint_current: float | None
    joint_mean: float | None
    kept_epoch: int | None = None


class CrossTaskCell(StudyModel):
    """A method at an overlap.

    Attributes:
        method: its name.
        title: as tables call it.
        last: accuracy of the student's classifier on its classes after the last epoch, percent.
        against_alone: difference to the student alone; None for that one.
        measures: one a seed.
        folders: of the runs, relative to the study's folder.
        published: the accuracy in the supplement's tables for the same networks; None where there is none.
        taps: what each of its losses looks at in the teacher, in words.
    """

    method: str
    title: str
    last: Summary
    against_alone: PairedComparison | None
    measures: tuple[StudentMeasures, ...]
    folders: tuple[str, ...]
    published: float | None = None
    taps: dict[str, str] = Field(default_factory=dict)

    def mean_of(self, name: str) -> float | None:
        """The mean of a measure over the seeds; None where it is not known."""
        values = [getattr(one, name) for one in self.measures]
        return None if None in values else sum(values) / len(values)


class TeacherDoubt(StudyModel):
    """How the weights of samples tell classes that the teacher knows from others.

    Attributes:
        auc: probability that an image of a known class has the larger weight; None if all are of one kind.
        seen: training images of known classes by weight, in 20 equal intervals of [0, 1].
        unseen: the same of the others.
    """

    auc: float | None
    seen: tuple[int, ...]
    unseen: tuple[int, ...]


class CrossTaskOverlap(StudyModel):
    """All methods at an overlap.

    Attributes:
        overlap: percent of the student's classes that the teacher knows.
        folder: of the study of methods, relative to the whole study's folder.
        student_classes: names.
        cells: the student alone first.
        weights: by way of weighting the samples, as ``weighting`` of the loss ``refilled``.
    """

    overlap: float
    folder: str
    student_classes: tuple[str, ...]
    cells: tuple[CrossTaskCell, ...]
    weights: dict[str, TeacherDoubt]


class CrossTaskResult(Shown, StudyFile):
    """A finished cross-task study.

    Attributes:
        path: its folder.
        data: name of the data set.
        teacher: name of the network.
        student: name of the network.
        teacher_classes: names, in the order of the teacher's outputs.
        teacher_top1: accuracy of the teacher on its own classes, percent; None for weights that were given.
        seeds: of the students.
        settings: of REFILLED.
        overlaps: in the order asked for.
        recipe: settings that all students share.
    """

    FILE: ClassVar[str] = "crosstask.json"
    KIND: ClassVar[str] = "cross-task study"

    data: str
    teacher: str
    student: str
    teacher_classes: tuple[str, ...]
    teacher_top1: float | None
    seeds: tuple[int, ...]
    settings: str
    overlaps: tuple[CrossTaskOverlap, ...]
    recipe: dict[str, Any]

    def _headline(self) -> str:
        overlaps = ", ".join(f"{one.overlap:.3g}" for one in self.overlaps)
        best = max(self.overlaps[0].cells, key=lambda cell: cell.last.mean)
        return (
            f"{self.teacher} -> {self.student} on {self.data}, overlaps {overlaps} %, "
            f"{len(self.overlaps[0].cells)} methods, {counted(self.seeds, 'seed')}; highest mean at "
            f"{self.overlaps[0].overlap:.3g} %: {best.title}, {best.last.mean:.2f} %"
        )

    def _draw(self, axes: Axes) -> None:
        overlaps = sorted(self.overlaps, key=lambda one: one.overlap)
        for first in overlaps[0].cells:
            means = [self.cell(one.overlap, first.method).last.mean for one in overlaps]
            axes.plot([one.overlap for one in overlaps], means, "o-", label=first.title)
        axes.set_xlabel("classes that the teacher knows, % of the student's")
        axes.set_ylabel("test accuracy after the last epoch, %, mean")
        axes.legend(fontsize="small")

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {"overlap": one.overlap, "method": cell.method, "seed": seed, "last_top1": top1}
            for one in self.overlaps
            for cell in one.cells
            for seed, top1 in zip(self.seeds, cell.last.values)
        ]

    def cell(self, overlap: float, method: str) -> CrossTaskCell:
        """A method at an overlap in percent.

        Raises:
            PursuhintError: the study has no such cell.
        """
        for one in self.overlaps:
            for cell in one.cells:
                if abs(one.overlap - overlap) < 0.5 and cell.method == method:
                    return cell
        raise PursuhintError(f"no method {method!r} at an overlap of {overlap:g} % in {self.path}")

    def table(self) -> Table:
        """Accuracy by method and overlap, with the published figure behind a stroke where there is one."""
        heads = ("method", *(f"{one.overlap:.3g} %" for one in self.overlaps))
        rows = []
        for first in self.overlaps[0].cells:
            cells = [self.cell(one.overlap, first.method) for one in self.overlaps]
            rows.append((first.title, *(_accuracy(cell) for cell in cells)))
        title = (
            f"Accuracy (%) on the student's classes of {self.data} by overlap with the teacher's, "
            f"{self.teacher} -> {self.student}"
        )
        return Table(title, heads, tuple(rows))

    def measure_table(self) -> Table:
        """Embeddings, joint label space and weights of samples, a row a method and overlap."""
        rows = []
        for one in self.overlaps:
            for cell in one.cells:
                names = ("nearest_mean_after_matching", "nearest_mean", "joint_old", "joint_current")
                values = [cell.mean_of(name) for name in (*names, "joint_mean")]
                shown = ("" if value is None else f"{value:.2f}" for value in values)
                difference = "" if cell.against_alone is None else _difference(cell.against_alone)
                rows.append((cell.title, f"{one.overlap:.3g} %", difference, *shown))
        heads = ("method", "overlap", "to alone", "NCM 1", "NCM", "old", "current", "harmonic")
        return Table("Differences to the student alone, and embeddings, in percent", heads, tuple(rows))


def published_accuracy(data: str, networks: Sequence[str], method: str, *, overlap: float) -> float | None:
    """The supplement's accuracy for the same data, teacher, student, method and overlap; None without one.

    Args:
        data: name of the data set.
        networks: teacher and student, as the table calls them.
        method: name of the method.
        overlap: in percent.
    """
    teacher, student = networks
    for one in published_results():
        found = (one.source, one.dataset, one.teacher, one.student, one.method, one.note)
        wanted = (_PAPER, DATASETS.get(data), teacher, student, _PUBLISHED.get(method))
        if found == (*wanted, f"class overlap {overlap:.0f}%") and one.table in ("1", "2"):
            return one.number
    return None


def _accuracy(cell: CrossTaskCell) -> str:
    spread = "" if cell.last.std is None else f" ± {cell.last.std:.2f}"
    beside = "" if cell.published is None else f" / {cell.published:.2f}"
    return f"{cell.last.mean:.2f}{spread}{beside}"


def _difference(pair: PairedComparison) -> str:
    interval = "" if pair.low is None or pair.high is None else f" [{pair.low:+.2f}, {pair.high:+.2f}]"
    return f"{pair.mean:+.2f}{interval}"
