"""What a study of methods leaves behind: accuracies, paired statistics, time and memory of every method."""

from __future__ import annotations

from collections.abc import Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from pursuhint._util.shown import Shown, counted
from pursuhint.study.accuracy_axes import draw_accuracies
from pursuhint.study.arm_result import SeedResult
from pursuhint.study.equality import MARGIN
from pursuhint.study.facts import DataFacts, NetworkFacts
from pursuhint.study.finished_study import FinishedStudy, StudyModel, find_by_name
from pursuhint.study.image_differences import ImageHits, with_new_images
from pursuhint.study.paired_statistics import (
    PairedComparison,
    Summary,
    compare_pairs,
    conclusion,
    correct_for_multiplicity,
    summarize,
)
from pursuhint.study.until_decided import SequentialResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["METHODS_FILE", "MethodComparison", "MethodResult"]

METHODS_FILE = "methods.json"


class MethodResult(StudyModel):
    """One method over all seeds.

    Attributes:
        name: as it was asked for; ``"alone"`` for the student without a teacher.
        title: how people call it.
        weights: of the terms of its loss, by name.
        hints: whether a loss compares hint points.
        taps: what each of its losses but cross-entropy looks at: the teacher's hint points, or the features
            in words.
        runs: one a seed, in the order of the study's seeds.
        last: accuracy after the last epoch: the primary outcome.
        best: accuracy after the best epoch; flattering when the best epoch was chosen on the test split.
        seconds: of a run, mean over seeds; see `pursuhint.training.train_many` for what they are.
        memory: bytes that a step keeps; see `pursuhint.study.step_memory`.
    """

    name: str
    title: str
    weights: dict[str, float]
    hints: bool
    taps: dict[str, str] = Field(default_factory=dict)
    runs: tuple[SeedResult, ...]
    last: Summary
    best: Summary
    seconds: float
    memory: int

    @classmethod
    def of(cls, runs: Sequence[SeedResult], **facts: Any) -> MethodResult:
        """A method from its runs and the other attributes."""
        return cls(
            runs=tuple(runs),
            last=summarize([run.last_top1 for run in runs]),
            best=summarize([run.best_top1 for run in runs]),
            seconds=sum(run.seconds for run in runs) / len(runs),
            **facts,
        )


class MethodComparison(Shown, FinishedStudy):
    """A finished study of methods.

    Attributes:
        path: its folder.
        outcome: by what methods are compared.
        recipe: settings shared by all runs; its seed and losses do not apply.
        seeds: in the order in which every method lists its runs.
        chosen_on: the split on which ``best`` epochs were chosen.
        data: sizes of the data.
        teacher: its size and accuracy.
        student: its size.
        methods: the student alone first, then in the order asked for; those that could be trained.
        against: by control, ``"alone"`` and ``"kd"`` where it is among the methods: comparisons of the
            primary outcome, corrected (Holm) for their number.
        sentences: by control: what each of these says, in words.
        failed: by method: why it could not be trained.
        sequential: looks and outcome, if seeds are added until the study is decided; its intervals then have
            the confidence of the last look. What counts is the difference to ``"kd"``, where it is among the
            methods.
        environment: versions, device, command; see ``environment.json`` of a run.
    """

    FILE: ClassVar[str] = METHODS_FILE
    KIND: ClassVar[str] = "study of methods"

    chosen_on: Literal["val", "test"]
    data: DataFacts
    teacher: NetworkFacts
    student: NetworkFacts
    methods: tuple[MethodResult, ...]
    against: dict[str, tuple[PairedComparison, ...]]
    sentences: dict[str, tuple[str, ...]]
    failed: dict[str, str]
    sequential: SequentialResult | None = None
    environment: dict[str, Any]

    def _headline(self) -> str:
        best = self.ranked[0]
        failed = f", {len(self.failed)} could not be trained" * bool(self.failed)
        return (
            f"{len(self.methods)} methods{failed}, {counted(self.seeds, 'seed')} on {self.data.name}; "
            f"highest mean: {best.title}, {best.last.mean:.2f} %"
        )

    def _draw(self, axes: Axes) -> None:
        draw_accuracies(axes, self.ranked)

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {
                "method": method.name,
                "seed": run.seed,
                "last_top1": run.last_top1,
                "best_top1": run.best_top1,
                "best_epoch": run.best_epoch,
                "seconds": run.seconds,
            }
            for method in self.methods
            for run in method.runs
        ]

    def method(self, name: str) -> MethodResult:
        """A method by name.

        Raises:
            PursuhintError: the study has no such method.
        """
        return find_by_name(self.methods, name, "method")

    def difference(self, name: str, control: str) -> PairedComparison | None:
        """A method's comparison with a control; None where there is none."""
        return next((pair for pair in self.against.get(control, ()) if pair.arm == name), None)

    @property
    def ranked(self) -> tuple[MethodResult, ...]:
        """The methods by their mean accuracy after the last epoch, the highest first."""
        return tuple(sorted(self.methods, key=lambda method: -method.last.mean))


def against(
    methods: Sequence[MethodResult],
    controls: Sequence[str],
    *,
    margin: float | None = MARGIN,
    confidence: float = 0.95,
    hits: ImageHits = MappingProxyType({}),
    grain: float = 0.0,
) -> tuple[dict[str, tuple[PairedComparison, ...]], dict[str, tuple[str, ...]]]:
    """Compare every method with every control, seed by seed.

    Args:
        methods: in the order of the tables.
        controls: names of some of them.
        margin: the smallest difference that matters, in points; None if nothing is to be called equal.
        confidence: of the intervals, in (0, 1).
        hits: of the methods whose runs kept them, for intervals that hold for other test images too.
        grain: the smallest step between two accuracies, in points, see `pursuhint.study.compare_pairs`.

    Returns:
        Comparisons, corrected for their number within a control, and sentences, by control.
    """
    by_name = {method.name: method for method in methods}
    pairs, sentences = {}, {}
    for control in controls:
        raw = [
            with_new_images(
                compare_pairs(
                    method.name,
                    method.last.values,
                    control,
                    by_name[control].last.values,
                    margin=margin,
                    confidence=confidence,
                    grain=grain,
                ),
                hits,
            )
            for method in methods
            if method.name != control
        ]
        pairs[control] = correct_for_multiplicity(raw)
        sentences[control] = tuple(
            conclusion(pair, arm=by_name[pair.arm].title, control=by_name[control].title)
            for pair in pairs[control]
        )
    return pairs, sentences
