"""What a comparison leaves behind: its arms, paired statistics and plain sentences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pursuhint._util.shown import Shown, counted
from pursuhint.study.accuracy_axes import draw_accuracies
from pursuhint.study.arm_result import ArmResult
from pursuhint.study.comparison_findings import result_of
from pursuhint.study.facts import DataFacts, NetworkFacts
from pursuhint.study.finished_study import FinishedStudy, find_by_name
from pursuhint.study.paired_statistics import PairedComparison
from pursuhint.study.until_decided import SequentialResult

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Comparison"]


class Comparison(Shown, FinishedStudy):
    """A finished comparison.

    Attributes:
        path: its folder.
        outcome: by what arms are compared.
        recipe: settings shared by all arms, resolved; its seed, hint strategy and points do not apply.
        seeds: in the order in which every arm lists its runs.
        k: number of hints of the arms that choose.
        metric: similarity metric of the arms that cluster.
        position: which member of a cluster they take.
        chosen_on: the split on which ``best`` epochs were chosen.
        data: sizes of the data.
        teacher: its size and accuracy.
        student: its size.
        arms: in the order asked for.
        findings: what a reader has to know first: that every student with hints ended below the student
            alone, that one term makes up nearly the whole loss, or that there are too few seeds.
        against: by control: comparisons of the primary outcome, corrected (Holm) for their number.
        sentences: by control: what each of these says, in words; none with fewer than 3 seeds.
        notes: facts that a reader needs beside the numbers, such as arms with identical runs.
        environment: versions, device, command; see ``environment.json`` of a run.
        sequential: looks and outcome, if seeds are added until the comparison is decided; its intervals then
            have the confidence of the last look.
    """

    FILE: ClassVar[str] = "compare.json"
    KIND: ClassVar[str] = "comparison"

    k: int
    metric: str
    position: str
    chosen_on: Literal["val", "test"]
    data: DataFacts
    teacher: NetworkFacts
    student: NetworkFacts
    arms: tuple[ArmResult, ...]
    findings: tuple[str, ...] = ()
    against: dict[str, tuple[PairedComparison, ...]]
    sentences: dict[str, tuple[str, ...]]
    notes: tuple[str, ...]
    environment: dict[str, Any]
    sequential: SequentialResult | None = None

    def _headline(self) -> str:
        return f"{len(self.arms)} arms, {counted(self.seeds, 'seed')} on {self.data.name}: {self.result}"

    def _draw(self, axes: Axes) -> None:
        draw_accuracies(axes, self.arms)

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {
                "arm": arm.name,
                "seed": run.seed,
                "positions": run.positions,
                "last_top1": run.last_top1,
                "best_top1": run.best_top1,
                "best_epoch": run.best_epoch,
                "seconds": run.seconds,
            }
            for arm in self.arms
            for run in arm.runs
        ]

    @property
    def result(self) -> str:
        """What came out, in one sentence without a full stop: see `result_of`."""
        return result_of(self.arms, self.against)

    def arm(self, name: str) -> ArmResult:
        """An arm by name.

        Raises:
            PursuhintError: the comparison has no such arm.
        """
        return find_by_name(self.arms, name, "arm")

    def verdicts(self, name: str) -> dict[str, str]:
        """An arm's verdicts by control, for a table: ``"equal"``; ``"–"`` where it is not compared."""
        pairs = {control: {pair.arm: pair for pair in found} for control, found in self.against.items()}
        return {
            control: "control" if name == control else found[name].verdict_in_short if name in found else "–"
            for control, found in pairs.items()
        }
