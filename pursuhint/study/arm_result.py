"""The runs of an arm: accuracies, positions and cost by seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pursuhint.errors import PursuhintError
from pursuhint.study.arms import Arm, find_arm
from pursuhint.study.finished_study import StudyModel
from pursuhint.study.paired_statistics import Summary, summarize

if TYPE_CHECKING:
    from pursuhint.hints.plan import HintPlan
    from pursuhint.training.run_folder.record import RunRecord

__all__ = ["ArmResult", "SeedResult", "first_of_same", "title_of"]


class SeedResult(StudyModel):
    """One run of an arm.

    Attributes:
        seed: its seed.
        folder: its run folder, relative to the comparison's; with ``same_as``, the folder of that arm's run.
        same_as: the arm whose run this is, when both have the same hint points for this seed; None for a
            separate run.
        positions: the teacher's hint positions, from 1, in depth order; none for the student alone. All
            that teach at one time or another, if they change while the student trains.
        modules: their names.
        last_top1: test accuracy after the last epoch, percent.
        best_top1: test accuracy after the best epoch, percent.
        best_epoch: which that was, from 1.
        seconds: time spent training.
        dominant_term: the term with more than 90 % of the loss after the first epoch; None without one.
        dominant_share: its share.
    """

    seed: int
    folder: str
    same_as: str | None = None
    positions: tuple[int, ...] = ()
    modules: tuple[str, ...] = ()
    last_top1: float
    best_top1: float
    best_epoch: int
    seconds: float
    dominant_term: str | None = None
    dominant_share: float | None = None

    @classmethod
    def of(cls, seed: int, folder: str, plan: HintPlan | None, record: RunRecord) -> SeedResult:
        """From a finished run and the hint points that it used."""
        points = () if plan is None else plan.teacher_points
        if plan is not None and plan.schedule is not None:  # a layer teaches in several epochs
            points = tuple(dict.fromkeys(points))
        dominant = record.dominant_term
        return cls(
            seed=seed,
            folder=folder,
            positions=tuple(point.position for point in points),
            modules=tuple(point.module for point in points),
            last_top1=record.last["test_top1"],
            best_top1=record.best["test_top1"],
            best_epoch=record.best["epoch"],
            seconds=sum(line["seconds"] for line in record.metrics),
            dominant_term=None if dominant is None else dominant.name,
            dominant_share=None if dominant is None else dominant.share,
        )


class ArmResult(StudyModel):
    """One arm over all seeds.

    Attributes:
        name: as in `pursuhint.study.ARMS`.
        runs: one a seed, in the order of the comparison's seeds.
        last: accuracy after the last epoch: the primary outcome.
        best: accuracy after the best epoch; flattering when the best epoch was chosen on the test split.
    """

    name: str
    runs: tuple[SeedResult, ...]
    last: Summary
    best: Summary

    @classmethod
    def of(cls, name: str, runs: Sequence[SeedResult]) -> ArmResult:
        """An arm from its runs."""
        return cls(
            name=name,
            runs=tuple(runs),
            last=summarize([run.last_top1 for run in runs]),
            best=summarize([run.best_top1 for run in runs]),
        )

    @property
    def title(self) -> str:
        """How tables call it."""
        return title_of(self.name)

    @property
    def positions(self) -> tuple[tuple[int, ...], ...]:
        """Hint positions, one entry a seed; a single entry when all seeds have the same."""
        every = tuple(run.positions for run in self.runs)
        return every[:1] if len(set(every)) == 1 else every

    @property
    def positions_text(self) -> str:
        """The positions as a table shows them: ``"2, 5, 8"``, ``"1, 4, 9 / 2, 3, 6"``, ``"none"``."""
        return " / ".join(", ".join(map(str, entry)) or "none" for entry in self.positions)


def first_of_same(arms: Sequence[ArmResult]) -> dict[str, str]:
    """For every arm, the first arm with identical runs."""
    seen: dict[tuple[str, ...], str] = {}
    return {arm.name: seen.setdefault(tuple(run.folder for run in arm.runs), arm.name) for arm in arms}


def title_of(name: str) -> str:
    """How tables and sentences call an arm."""
    arm = arm_if_known(name)
    return name if arm is None else arm.title


def description_of(name: str) -> str:
    """What an arm does, in a clause; empty for one that this version does not know."""
    arm = arm_if_known(name)
    return "" if arm is None else arm.description


def arm_if_known(name: str) -> Arm | None:
    """An arm by name; None for a method, or an arm of another version."""
    try:
        return find_arm(name)
    except PursuhintError:
        return None
