"""Compare hint positions with several sets of losses and lengths of training at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pursuhint._util.arguments import READ_RECIPE, expect
from pursuhint._util.distributed import is_main_process
from pursuhint._util.random_state import keep_random_state
from pursuhint.analysis.result import Analysis
from pursuhint.errors import PursuhintError
from pursuhint.models.teacher_accuracy import TeacherAccuracy
from pursuhint.study.arms import DEFAULT_ARMS, arm_folder
from pursuhint.study.comparison import Comparison
from pursuhint.study.crossed import CrossedCell, CrossedComparison, ErrorOver
from pursuhint.study.events import PhaseStarted
from pursuhint.study.run_arms import GroupOptions, train_arms
from pursuhint.study.run_comparison import ComparisonRequest, comparison_steps, resolved_for_arms
from pursuhint.study.run_key import RunKey
from pursuhint.study.sequential import SequentialPlan
from pursuhint.study.settings import StudySettings
from pursuhint.study.study import Study, StudyOptions
from pursuhint.study.until_decided import check_plan
from pursuhint.training.events import TeacherMeasured, ignore
from pursuhint.training.inputs import Inputs, Run
from pursuhint.training.prepare_training import prepare
from pursuhint.training.recipe.recordable import check_recordable
from pursuhint.training.recipe.resolve import shared_activation
from pursuhint.training.recipe.schema import LossConfig, Recipe
from pursuhint.training.recipe.second_view import data_of_losses, looks_at_second_view
from pursuhint.training.signals import share_stop

if TYPE_CHECKING:
    from collections.abc import Generator

    from pursuhint.study.events import StudyEvent, Watcher

__all__ = ["Crossing", "compare_crossed"]


@dataclass(frozen=True)
class Crossing:
    """What the arms of a comparison are crossed with.

    Attributes:
        loss_sets: losses by the name of the set, as in a recipe; empty for the recipe's own losses.
        epochs: lengths of training; empty for the recipe's.
        error_over: what the chance of a wrong answer is bounded for, where seeds are added until the answer
            is known: every ``"cell"`` (a set and a length) by itself, or ``"all"`` of them together.

    Raises:
        PursuhintError: a set has no losses, two names are one folder, or a length is given twice or below 1.
    """

    loss_sets: Mapping[str, Mapping[str, LossConfig]]
    epochs: tuple[int, ...] = ()
    error_over: ErrorOver = "cell"

    def __post_init__(self) -> None:
        for name, losses in self.loss_sets.items():
            if not losses or not name.strip():
                raise PursuhintError(
                    f"a set of losses needs a name and at least one loss, got {name!r} with "
                    f"{', '.join(losses) or 'none'}; write NAME=at,kd"
                )
        if len({arm_folder(name).lower() for name in self.loss_sets}) != len(self.loss_sets):
            raise PursuhintError(f"two sets of losses have one name: {', '.join(self.loss_sets)}")
        if len(set(self.epochs)) != len(self.epochs) or min(self.epochs, default=1) < 1:
            raise PursuhintError(
                f"the lengths of training must be different numbers of epochs, got {list(self.epochs)}"
            )

    def cells(self, recipe: Recipe) -> dict[CrossedCell, Recipe]:
        """The recipe of every cell."""
        sets = self.loss_sets or {"+".join(recipe.losses): recipe.losses}
        looking = any(looks_at_second_view(losses) for losses in sets.values())
        found = {}
        for name, losses in sets.items():
            data = data_of_losses(recipe.data, losses) if looking else recipe.data
            for epochs in self.epochs or (recipe.epochs,):
                cell = CrossedCell(
                    loss_set=name, epochs=epochs, folder=f"cells/{arm_folder(name)}-{epochs}-epochs"
                )
                shared = recipe.model_copy(update={"data": data}).to_dict()
                values = {**shared, "losses": losses, "epochs": epochs}
                found[cell] = Recipe.from_dict(values)
        return found


@share_stop()
def compare_crossed(
    recipe: Recipe,
    out: Path | str,
    crossing: Crossing,
    *,
    request: ComparisonRequest = ComparisonRequest(DEFAULT_ARMS, (0, 1, 2, 3, 4)),  # noqa: B008
    options: StudyOptions,
    passed: Inputs = Inputs(),  # noqa: B008
) -> CrossedComparison:
    """Compare the same arms with several sets of losses and lengths of training.

    Every cell (a set and a length) is a comparison of its own in ``OUT/cells``, as `pursuhint.study.compare`
    writes it. All students of a seed, over all cells, train side by side and share one pass of the teacher;
    runs that are the same in several cells (the student alone) are trained once and copied. The teacher is
    measured and analyzed once. The same call resumes an interrupted one; with more arms, seeds, sets or
    lengths it adds them.

    Args:
        recipe: student, teacher, data, schedule.
        out: folder of the study.
        crossing: the sets of losses and the lengths.
        request: arms, seeds and margin. With ``max_seeds``, every cell adds seeds until it is decided by
            itself; the chance of a wrong answer is bounded in each, or in all together, see `Crossing`: then
            every cell has an equal part of it (Bonferroni), within which its arms are corrected (Holm).
        options: how to train.
        passed: teacher and data to use instead of the recipe's.

    Raises:
        PursuhintError: as `pursuhint.study.compare`, for any cell; before anything is trained.
    """
    expect(recipe, Recipe, "the recipe", advice=READ_RECIPE)
    out, cells = Path(out), crossing.cells(recipe)
    plan, most = None, request.max_seeds
    if most is not None:
        if crossing.error_over == "all":
            request = replace(request, error=request.error / len(cells))
        plan = SequentialPlan(len(request.seeds), most, request.error)
    elif crossing.error_over == "all":
        raise PursuhintError('error_over="all" would be ignored: it goes with max_seeds (--until-decided)')
    for cell in cells:  # before the study's own settings list other seeds
        if (out / cell.folder / Comparison.FILE).exists() and not options.overwrite:
            check_plan(Comparison.load(out / cell.folder), plan)
    with keep_random_state(options.device):
        study = _outer_study(recipe, out, cells, request, passed, options)
        watch = _CellEvents(options.on_event or ignore)
        watching, silent = replace(options, on_event=watch), replace(options, on_event=None)
        comparing: dict[CrossedCell, Generator[Mapping[RunKey, Run], None, Comparison]] = {}
        runs: dict[RunKey, Run] = {}
        analyses: dict[str, Analysis] = {}
        accuracy: TeacherAccuracy | None = passed.accuracy
        for cell, own in cells.items():
            activation = (own.hints.activation if own.hints else None) or shared_activation(own.losses)
            asked = replace(request, analysis=request.analysis or analyses.get(activation))
            watched = watching if activation not in analyses else silent
            steps = comparison_steps(
                own, out / cell.folder, asked, replace(passed, accuracy=accuracy), watched
            )
            for key, run in next(steps).items():
                runs[RunKey(f"{cell.title}: {key.arm}", key.seed)] = run
                accuracy = accuracy or run.inputs.accuracy
            comparing[cell] = steps
            if (out / cell.folder / "analysis" / "analysis.json").exists():
                analyses.setdefault(activation, Analysis.load(out / cell.folder / "analysis"))
        watch.muted = True
        while runs:
            _train_together(runs, options)
            study.wait()
            # A cell finds its runs finished, and compares. With more seeds to come, it pauses again.
            more = {cell: next(steps, {}) for cell, steps in comparing.items()}
            runs = {
                RunKey(f"{cell.title}: {key.arm}", key.seed): run
                for cell, own in more.items()
                for key, run in own.items()
            }
            if runs and options.on_event is not None:
                left = sum(bool(own) for own in more.values())
                text = f"{left} of {len(cells)} cells are not decided and get more seeds"
                options.on_event(PhaseStarted("seeds", text))
        compared = [Comparison.load(out / cell.folder) for cell in cells]
        result = CrossedComparison(
            path=out,
            recipe=study.recipe.to_dict(),
            seeds=max((found.seeds for found in compared), key=len),
            margin=request.margin,
            error_over=None if plan is None else crossing.error_over,
            provenance=compared[0].provenance,
            cells=tuple(cells),
        )
        if study.is_main_process:
            result.save()
        study.wait()
        return result


def _outer_study(
    recipe: Recipe,
    out: Path,
    cells: Mapping[CrossedCell, Recipe],
    request: ComparisonRequest,
    passed: Inputs,
    options: StudyOptions,
) -> Study:
    """The folder that holds the cells, claimed; its settings list what can be added."""
    shared = recipe.model_copy(update={"losses": {}, "epochs": 1, "seed": 0})
    parts = prepare(shared.model_copy(update={"hints": None}), passed)
    lists: dict[str, Sequence[Any]] = {
        "arms": request.arms,
        "seeds": request.seeds,
        "sets of losses": tuple(dict.fromkeys(cell.loss_set for cell in cells)),
        "lengths": tuple(dict.fromkeys(cell.epochs for cell in cells)),
    }
    study = Study(shared, out, passed, options)
    settings = StudySettings("crossed comparison", shared, inputs={}, data=parts.data, lists=lists)
    if not study.holds(settings):
        for own in cells.values():  # what is wrong with a cell is said before its folder is touched
            resolved = resolved_for_arms(own, passed, seed=request.seeds[0])
            if options.record_teacher is not None:
                check_recordable(resolved)
    study.claim(settings)
    return study


class _CellEvents:
    """Passes the events of cells on until it is muted; the accuracy of their teacher, once."""

    def __init__(self, watch: Watcher) -> None:
        self.watch, self.muted, self.measured = watch, False, False

    def __call__(self, event: StudyEvent) -> None:
        again = isinstance(event, TeacherMeasured) and self.measured
        self.measured = self.measured or isinstance(event, TeacherMeasured)
        if not self.muted and not again:
            self.watch(event)


def _train_together(runs: Mapping[RunKey, Run], options: StudyOptions) -> None:
    """Train the runs of all cells, seed by seed; each of several equal ones gets a copy of the first."""
    seeds = list(dict.fromkeys(key.seed for key in runs))
    ordered = sorted(runs, key=lambda key: seeds.index(key.seed))
    first_with: dict[Any, RunKey] = {}
    same = {}
    for key in ordered:
        first = first_with.setdefault(_identity(runs[key]), key)
        if first != key and not runs[key].out.exists():
            same[key] = first
    group = GroupOptions(
        options.device, options.at_once, options.streams, False, record_teacher=options.record_teacher
    )
    own = {key: runs[key] for key in ordered if key not in same}
    train_arms(own, same=same, options=group, watch=options.on_event or ignore)
    if is_main_process():
        for key, first in same.items():
            _copy_run(runs[first].out, runs[key].out)


def _identity(run: Run) -> tuple[Any, ...]:
    """What makes two runs equal: the resolved recipe and the pairs of hint points."""
    plan = run.inputs.plan
    pairs = () if plan is None else plan.pairs
    names = tuple((pair.teacher.module, pair.student and pair.student.module) for pair in pairs)
    return run.recipe.model_dump_json(), names


def _copy_run(source: Path, target: Path) -> None:
    """Copy a finished run folder; the copy is complete or absent."""
    unfinished = target.with_name(f".{target.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    shutil.copytree(source, unfinished)
    os.replace(unfinished, target)
