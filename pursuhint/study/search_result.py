"""What a search leaves behind: its trials, the best of them, and what the choice is worth on new seeds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from pursuhint._util.shown import Shown
from pursuhint.errors import PursuhintError
from pursuhint.study.equality import MARGIN
from pursuhint.study.facts import DataFacts, NetworkFacts
from pursuhint.study.finished_study import FinishedStudy, StudyModel
from pursuhint.study.paired_statistics import PairedComparison, compare_pairs

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["Confirmation", "Pruner", "SearchOptions", "SearchResult", "SearchTrial"]

Pruner = Literal["median", "hyperband", "none"]
"""Rules that end a trial early."""

JUDGED_BY = "validation accuracy (top-1, percent) after the last epoch"


@dataclass(frozen=True)
class SearchOptions:
    """How a search runs.

    Attributes:
        trials: how many there are in all, over all calls and machines.
        pruner: ends a trial early whose validation accuracy after an epoch is below the median of the others
            there (``median``), that is not among the best third at an epoch of successive halving
            (``hyperband``), or none.
        at_once: trials that train side by side; they share batches and the pass of the teacher.
        confirm_seeds: new seeds on which the best trial and the recipe itself are trained at the end.
        record_teacher: folder of a recording of the teacher that all trials use.
        overwrite: replace a search of other keys, settings, networks or data in the folder, once everything
            has been checked; the same one continues, and files of others are never removed.

    Raises:
        PursuhintError: a number is out of range, or there is no such rule.
    """

    trials: int = 20
    pruner: Pruner = "median"
    at_once: int = 1
    confirm_seeds: int = 0
    record_teacher: Path | None = None
    overwrite: bool = False

    def __post_init__(self) -> None:
        for name, least in (("trials", 1), ("at_once", 1), ("confirm_seeds", 0)):
            if getattr(self, name) < least:
                raise PursuhintError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.pruner not in get_args(Pruner):
            raise PursuhintError(f"pruner must be one of {', '.join(get_args(Pruner))}; got {self.pruner!r}")


class SearchTrial(StudyModel):
    """One trial.

    Attributes:
        number: from 0.
        values: of the varied keys, as they are assigned to them.
        state: what became of it; ``running`` also if its process has ended, until another resumes it.
        top1: validation accuracy after the last epoch; None unless complete.
        epochs: that were judged, from 1 over all stages.
        curve: validation accuracy after each of them.
        error: why it failed.
        folder: of its run, relative to the search; that of an earlier trial with the same values, if there is
            one.
    """

    number: int
    values: dict[str, str]
    state: Literal["complete", "pruned", "failed", "running"]
    top1: float | None = None
    epochs: tuple[int, ...] = ()
    curve: tuple[float, ...] = ()
    error: str | None = None
    folder: str


class Confirmation(StudyModel):
    """The best trial and the recipe itself on seeds that the search has not seen.

    Attributes:
        seeds: one run of each on every one.
        best: test accuracies of the best trial's recipe after the last epoch.
        default: those of the recipe that was searched from.
    """

    seeds: tuple[int, ...]
    best: tuple[float, ...]
    default: tuple[float, ...]

    @property
    def comparison(self) -> PairedComparison:
        """The best minus the default."""
        return compare_pairs("the best trial", self.best, "the default", self.default, margin=MARGIN)


class SearchResult(Shown, FinishedStudy):
    """A search, finished or not.

    Attributes:
        recipe: of all trials, with the validation split that judges them.
        seeds: the one seed of all trials.
        wanted: number of trials asked for.
        pruner: rule that ends trials early.
        space: what varies, as it is typed.
        trials: by number.
        best: number of the best complete trial, the first of equal ones; None without one.
        default: number of the trial with the recipe's own values; None if it is not among them.
        importances: share of the variance of the results that each key explains (functional ANOVA of Hutter,
            Hoos and Leyton-Brown, ICML 2014); None with fewer than four complete trials or one key.
        confirmation: on new seeds; None if it was not asked for, or not yet.
        data, teacher, student: of all trials.
        environment: of the first call.
    """

    FILE: ClassVar[str] = "search.json"
    KIND: ClassVar[str] = "search"

    wanted: int
    pruner: Pruner
    space: tuple[str, ...]
    trials: tuple[SearchTrial, ...]
    best: int | None
    default: int | None
    importances: dict[str, float] | None
    confirmation: Confirmation | None = None
    data: DataFacts
    teacher: NetworkFacts | None
    student: NetworkFacts
    environment: dict[str, Any]

    def _headline(self) -> str:
        counts = {state: len(self.of_state(state)) for state in ("complete", "pruned", "failed", "running")}
        ended = ", ".join(f"{count} {state}" for state, count in counts.items() if count)
        if self.best is None:
            return f"{len(self.trials)} trials ({ended})"
        best = self.best_trial
        values = ", ".join(f"{key} = {value}" for key, value in best.values.items())
        return (
            f"{len(self.trials)} trials ({ended}), the best one is {best.number} with a validation top-1 of "
            f"{best.top1:.2f} %: {values}"
        )

    def _draw(self, axes: Axes) -> None:
        for states, marker, color in (("complete", "o", "#0072B2"), ("pruned", "x", "#999999")):
            shown = [trial for trial in self.of_state(states) if trial.curve]
            heights = [trial.curve[-1] for trial in shown]
            axes.plot([trial.number for trial in shown], heights, marker, color=color, label=states)
        if self.best is not None:
            axes.plot([self.best], [self.best_trial.curve[-1]], "o", color="#D55E00", label="best")
        axes.set_xlabel("trial")
        axes.set_ylabel("validation accuracy at its end, %")
        axes.legend()

    def _rows(self) -> list[dict[str, Any]]:
        return [
            {
                "trial": trial.number,
                "state": trial.state,
                "val_top1": trial.top1,
                "epochs": len(trial.curve),
                **trial.values,
            }
            for trial in self.trials
        ]

    @property
    def finished(self) -> bool:
        """Whether all trials have ended."""
        ended = [trial for trial in self.trials if trial.state != "running"]
        return len(ended) >= self.wanted

    def of_state(self, state: str) -> tuple[SearchTrial, ...]:
        """The trials of a state."""
        return tuple(trial for trial in self.trials if trial.state == state)

    @property
    def best_trial(self) -> SearchTrial:
        """The best trial.

        Raises:
            PursuhintError: none is complete.
        """
        for trial in self.trials:
            if trial.number == self.best:
                return trial
        raise PursuhintError(f"no trial of the search {self.path} is complete")

    def to_dict(self) -> Mapping[str, Any]:
        """Plain values for JSON, with the folder and the best values."""
        values = self.model_dump(mode="json", by_alias=True)
        best = None if self.best is None else self.best_trial.values
        return {**values, "folder": str(self.path), "best_values": best}
