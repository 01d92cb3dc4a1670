"""Which seeds a study trains when it adds them until it is decided, and whether it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pursuhint._util.atomic_files import read_json
from pursuhint._util.replace_folder import DifferentResult
from pursuhint.study.finished_study import StudyModel
from pursuhint.study.paired_statistics import PairedComparison
from pursuhint.study.sequential import SequentialPlan
from pursuhint.study.settings import SETTINGS

if TYPE_CHECKING:
    from pursuhint.study.arm_result import ArmResult
    from pursuhint.study.comparison import Comparison
    from pursuhint.study.method_comparison import MethodComparison, MethodResult


class SequentialResult(StudyModel):
    """How a study that adds seeds until it is decided has ended.

    Attributes:
        first: seeds at the first look.
        most: seeds at the last look that was planned.
        error: chance of a wrong answer that all looks share.
        looks: numbers of seeds at which results are looked at.
        levels: of the tests at each of them.
        seeds: number at the look that this result is of.
        control: the arm with which the others are compared to decide.
        undecided: arms whose verdict against it is open, or does not survive the correction.
    """

    first: int
    most: int
    error: float
    looks: tuple[int, ...]
    levels: tuple[float, ...]
    seeds: int
    control: str
    undecided: tuple[str, ...]

    @classmethod
    def of(
        cls,
        plan: SequentialPlan,
        arms: Sequence[ArmResult] | Sequence[MethodResult],
        against: Mapping[str, Sequence[PairedComparison]],
        *,
        control: str = "",
    ) -> SequentialResult:
        """From the arms so far and their comparisons at the confidence of this look.

        Arms that are the control's own runs need no verdict.

        Args:
            plan: of the looks.
            arms: or methods, all with the same seeds.
            against: comparisons by control.
            control: the one that counts; empty for the first.
        """
        control = control or next(iter(against))
        runs = {arm.name: [run.folder for run in arm.runs] for arm in arms}
        return cls(
            first=plan.first,
            most=plan.most,
            error=plan.error,
            looks=plan.looks,
            levels=plan.levels,
            seeds=len(arms[0].runs),
            control=control,
            undecided=tuple(
                pair.arm for pair in against[control] if not pair.decided and runs[pair.arm] != runs[control]
            ),
        )

    @property
    def plan(self) -> SequentialPlan:
        """What was planned."""
        return SequentialPlan(self.first, self.most, self.error)

    @property
    def decided(self) -> bool:
        """Whether every arm is better, worse or equal, after the correction."""
        return not self.undecided

    def sentence(self, titles: Mapping[str, str]) -> str:
        """How the study ended, without a full stop.

        Args:
            titles: how to call the arms, by name.
        """
        chance = (
            f"looks at {', '.join(map(str, self.looks))} seeds share a chance of {self.error * 100:.3g} % "
            "for any wrong better or worse, and of as much for any wrong equal"
        )
        control = titles[self.control]
        if self.decided:
            return f"decided after {self.seeds} seeds: every arm against {control} ({chance})"
        names = ", ".join(titles[name] for name in self.undecided)
        how = "the most allowed" if self.seeds == self.most else f"of at most {self.most}"
        return f"not decided after {self.seeds} seeds, {how}: {names} against {control} ({chance})"


def check_plan(before: Comparison | MethodComparison | None, plan: SequentialPlan | None) -> None:
    """Check that a folder's seeds are still added by the same plan, without which its error rate is void.

    Raises:
        DifferentResult: they are not.
    """
    if before is None or before.sequential is None or before.sequential.plan == plan:
        return
    known = before.sequential
    shared = ""
    if plan is not None and known.error != plan.error:
        shared = (
            f" with a chance of {known.error * 100:.3g} % of a wrong answer (here {plan.error * 100:.3g} %; "
            "with --error-over all, no set of losses or length can be added)"
        )
    raise DifferentResult(
        f"{before.path} holds a {before.KIND} that adds seeds until it is decided, from {known.first} to "
        f"{known.most}{shared}; another plan would void its error rate, so begin with {known.first} seeds "
        f"and repeat --until-decided --max-seeds {known.most}, choose another folder (--out), or "
        "replace it (--overwrite)"
    )


def looks_of(
    plan: SequentialPlan | None, seeds: Sequence[int], there: Sequence[int]
) -> list[tuple[int, ...]]:
    """The seeds at every look that is left.

    Looks with fewer seeds than the folder has are over: its results have been seen. Leaving looks out spends
    less of the error, not more.

    Args:
        plan: None for a study of fixed seeds, which has a single look.
        seeds: to begin with.
        there: seeds that the folder has.
    """
    if plan is None:
        return [tuple(seeds)]
    every = plan.seeds(seeds)
    left = [every[:number] for number in plan.looks if set(there) <= set(every[:number])]
    return left or [every]  # which the folder then refuses, naming the seeds it has besides


def seeds_in(folder: Path) -> tuple[int, ...]:
    """The seeds of the study that a folder holds; none if it holds none, or nothing that can be read."""
    if not (folder / SETTINGS).exists():
        return ()
    values = read_json(folder / SETTINGS, "settings of the study")
    seeds = values.get("seeds") if isinstance(values, dict) else None
    return tuple(seed for seed in seeds if isinstance(seed, int)) if isinstance(seeds, list) else ()
