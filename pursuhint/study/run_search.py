"""Search weights, temperatures and hint positions with Optuna, and confirm what was found on new seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pursuhint._util.arguments import READ_RECIPE, expect
from pursuhint._util.atomic_files import read_json
from pursuhint._util.devices import choose_device
from pursuhint._util.distributed import world_size
from pursuhint._util.random_state import keep_random_state
from pursuhint._util.replace_folder import DifferentResult
from pursuhint.errors import PursuhintError
from pursuhint.models.checkpoint import count_parameters
from pursuhint.study.facts import DataFacts, NetworkFacts
from pursuhint.study.paired_statistics import conclusion
from pursuhint.study.run_arms import run_folder
from pursuhint.study.search_result import (
    JUDGED_BY,
    Confirmation,
    SearchOptions,
    SearchResult,
    SearchTrial,
)
from pursuhint.study.search_space import Varied, parse_varied
from pursuhint.study.search_trials import OpenTrial, Pruned, TrialStore, check_optuna
from pursuhint.study.search_values import check_space, default_values, with_values
from pursuhint.study.settings import SETTINGS, StudySettings
from pursuhint.study.study import TEACHER, Study, StudyOptions
from pursuhint.training.events import EpochFinished, EpochStarted, Event, ignore
from pursuhint.training.inputs import NO_INPUTS, Inputs, Run
from pursuhint.training.multi_student.train_many import train_many
from pursuhint.training.prepare_training import Parts, build_distiller, prepare
from pursuhint.training.recipe.recordable import check_recordable
from pursuhint.training.recipe.resolve import resolve_recipe, with_absolute_paths
from pursuhint.training.recipe.schema import Recipe
from pursuhint.training.run_folder.environment import describe_environment, describe_provenance
from pursuhint.training.run_folder.record import RunRecord
from pursuhint.training.signals import share_stop
from pursuhint.training.teacher_accuracy import accuracy_of_teacher

__all__ = ["search"]

BEST = "best.yaml"
"""File of a search with the recipe of its best trial."""

_HELD_OUT = 0.1  # share of the training images that judge trials, unless the recipe has a validation split


@share_stop()
def search(
    recipe: Recipe,
    out: Path | str,
    vary: Sequence[str | Varied],
    *,
    options: SearchOptions | None = None,
    device: torch.device | str | None = None,
    inputs: Inputs = NO_INPUTS,
    watch: Callable[[str], None] = ignore,
) -> SearchResult:
    """Search values of a recipe by validation accuracy, with Optuna's tree-structured Parzen estimator.

    Every trial is an ordinary run with the recipe's seed, ``OUT/trials/NUMBER/run``, judged by its validation
    accuracy after the last epoch; the test split is never looked at to choose. Without a validation split
    in the recipe, a tenth of the training images is held out. The first trial has the recipe's own values
    where these are among those to search. A trial that is not promising ends early. The same call resumes
    an interrupted search, and runs beside it on other machines share its trials (Optuna's journal in OUT).
    The trials depend on the seed alone if one process trains them.

    Source: J. Bergstra, R. Bardenet, Y. Bengio and B. Kégl, Algorithms for Hyper-Parameter Optimization,
    NeurIPS 2011.

    Args:
        recipe: of all trials.
        out: folder of the search.
        vary: keys with ranges or choices: ``"losses.at=100..10000:log"``, ``"hints.metric=cka,r2cca"``.
        options: how many trials, how they end early, and what is confirmed.
        device: where to train; None for the best there is.
        inputs: networks and data that replace the recipe's; data need a validation split.
        watch: receives a line about every trial.

    Returns:
        The search, which is also in ``OUT/search.json``. ``OUT/best.yaml`` is the recipe with the best values
        and without the automatic validation split. While other processes still train trials, the result
        is that so far.

    Raises:
        PursuhintError: a key or value is wrong, the folder holds another search, or a trial could not begin.
            A trial whose loss is not finite does not stop the others.
        RunStopped: a signal asked to stop; the trials that had begun have been saved.

    Example:
        >>> found = search(recipe, "runs/search", ["losses.at=100..10000:log"])
        >>> found.best_trial.values
    """
    expect(recipe, Recipe, "the recipe", advice=READ_RECIPE)
    options = SearchOptions() if options is None else options
    check_optuna()
    if world_size() > 1:
        raise PursuhintError(
            "each trial is trained by one process; start the same search several times with one --out"
        )
    where = choose_device(device)
    space = [parse_varied(each) if isinstance(each, str) else each for each in vary]
    with keep_random_state(where):
        running = _Search(with_absolute_paths(recipe), Path(out), inputs, options, where, watch)
        return running.run(space)


class _Search:
    """One call of `search`."""

    def __init__(
        self,
        recipe: Recipe,
        out: Path,
        inputs: Inputs,
        options: SearchOptions,
        device: torch.device,
        watch: Callable[[str], None],
    ) -> None:
        self.given, self.out, self.inputs, self.options = recipe, out, inputs, options
        self.device, self.watch = device, watch
        self.recipe = _with_validation(recipe, inputs, watch)
        self.best_so_far: float | None = None

    def run(self, space: Sequence[Varied]) -> SearchResult:
        """Train the trials that are left, and write the result."""
        options, recorded = self.options, self.options.record_teacher is not None
        if recorded:
            check_recordable(self.recipe)
        self.space = check_space(self.recipe, space, self.inputs, recorded=recorded)
        self.defaults = default_values(self.recipe, self.space, self.inputs)
        self.study = Study(
            self.recipe,
            self.out,
            self.inputs,
            StudyOptions(self.device, options.at_once, False, None, options.overwrite),
        )
        parts = self._claim()
        self.store = TrialStore(
            self.out,
            self.space,
            seed=self.recipe.seed,
            pruner=options.pruner,
            epochs=self._longest(),
        )
        self.store.begin_with(self.defaults)
        result = self._result(parts, None)
        self.best_so_far = None if result.best is None else result.best_trial.top1
        while opened := self.store.take(options.at_once, options.trials):
            try:
                self._train(opened)
            finally:
                for one in opened:
                    one.lock.close()
            result = self._result(parts, None)
            result.save()
        if not result.finished:
            waiting = len(result.of_state("running"))
            self.watch(f"{waiting} trials are being trained by other processes; the last one confirms")
            return result
        if result.best is None:
            first = next(trial for trial in result.trials if trial.error is not None)
            raise PursuhintError(f"no trial is complete; trial {first.number} failed: {first.error}")
        best = with_values(self.given, result.best_trial.values)
        resolve_recipe(best, self.inputs).save(self.out / BEST)
        if options.confirm_seeds:
            result = self._result(parts, self._confirm(best, result))
        if result.provenance is not None:
            made = result.provenance.finished()
            result = result.model_copy(update={"provenance": made})
        result.save()
        return result

    # -- before ----------------------------------------------------------------------------------------------

    def _claim(self) -> Parts:
        """Check the folder and everything that trials share, and mark the folder as this search's."""
        resolved = resolve_recipe(self.recipe, self.inputs)
        self.teacher_name = "" if resolved.teacher is None else resolved.teacher.network
        parts = prepare(resolved, self.inputs.with_plan_of(self.recipe))
        if parts.plan is not None or resolved.hints is None:
            build_distiller(resolved, parts, parts.plan)
            parts = prepare(resolved, self.inputs.with_plan_of(self.recipe))  # losses may change the student
        if parts.data.val is None:
            raise PursuhintError(
                f"a search is judged on a validation split, and {parts.data.name} has none; "
                "give data with one"
            )
        asked: dict[str, list[str]] = {
            "varied": [str(varied) for varied in self.space],
            "pruner": [self.options.pruner],
        }
        settings = StudySettings(
            "search", self.recipe, inputs=self.inputs.fingerprints(resolved), data=parts.data, lists=asked
        )
        try:
            again = self._is_there(settings, asked)
        except DifferentResult as found:
            self.study.replace(found)
            again = False
        if not again:
            self.study.claim(settings)
        if parts.teacher is not None and self.inputs.accuracy is None:
            accuracy = accuracy_of_teacher(resolved, parts, device=self.device, keep=self.out / TEACHER)
            self.inputs = replace(self.inputs, accuracy=accuracy)
            self.watch(accuracy.line())
        return parts

    def _is_there(self, settings: StudySettings, asked: Mapping[str, list[str]]) -> bool:
        """Whether the folder holds this search.

        Raises:
            DifferentResult: it holds another one.
        """
        if not settings.matches(self.out):
            return False
        there = read_json(self.out / SETTINGS, "settings of the search")
        if any(there[name] != values for name, values in asked.items()):
            raise DifferentResult(
                f"{self.out} holds a search of {', '.join(there['varied'])} with the pruner "
                f"{there['pruner'][0]}, and this one is of {', '.join(asked['varied'])} with "
                f"{self.options.pruner}; choose another folder (--out), or replace it (--overwrite)"
            )
        return True

    def _longest(self) -> int:
        """Epochs of the longest trial."""
        varied = [float(end) for one in self.space if one.key == "epochs" for end in one.ends]
        return int(max([self.recipe.epochs, *varied]))

    # -- trials ----------------------------------------------------------------------------------------------

    def _train(self, opened: Sequence[OpenTrial]) -> None:
        """Train trials side by side and write down what became of them."""
        opened = [one for one in opened if not self._repeated(one)]
        runs = [
            Run(
                with_values(self.recipe, one.values),
                one.folder,
                self.inputs,
                _Judge(one),
                self.options.record_teacher,
            )
            for one in opened
        ]
        results = train_many(runs, device=self.device, keep_going=True)
        for one, result in zip(opened, results, strict=True):
            if isinstance(result, RunRecord):
                top1 = float(result.last["val_top1"])
                self.store.end(one, top1, None)
                self._say(one, top1)
                continue
            begun = (one.folder / "recipe.yaml").exists()
            self.store.end(one, None, result)
            if not begun:
                raise PursuhintError(f"trial {one.number} ({_text(one.values)}): {result}")
            self._say_end(one, result)

    def _repeated(self, one: OpenTrial) -> bool:
        """Whether a trial has the values of a complete one; it then has its result, since the seed is one."""
        for earlier in self.store.trials():
            if earlier.state == "complete" and earlier.values == one.values:
                self.store.repeat(one, earlier)
                what = f"validation top-1 {earlier.top1:.2f} %, as trial {earlier.number}"
                self.watch(f"trial {self._place(one)}: {_text(one.values)}: {what}")
                return True
        return False

    def _say(self, one: OpenTrial, top1: float) -> None:
        best = self.best_so_far is None or top1 > self.best_so_far
        if best:
            self.best_so_far = top1
        mark = " (best so far)" if best else ""
        self.watch(f"trial {self._place(one)}: {_text(one.values)}: validation top-1 {top1:.2f} %{mark}")

    def _say_end(self, one: OpenTrial, error: PursuhintError) -> None:
        what = str(error) if isinstance(error, Pruned) else f"failed: {error}"
        self.watch(f"trial {self._place(one)}: {_text(one.values)}: {what}")

    def _place(self, one: OpenTrial) -> str:
        return f"{one.number} ({one.number + 1} of {self.options.trials})"

    # -- after -----------------------------------------------------------------------------------------------

    def _confirm(self, best: Recipe, result: SearchResult) -> Confirmation | None:
        """Train the best trial's recipe and the given one on new seeds; None if they are the same."""
        if result.best == result.default:
            self.watch("the best trial is that of the recipe itself; there is nothing to confirm")
            return None
        first = self.recipe.seed + 1
        seeds = tuple(range(first, first + self.options.confirm_seeds))
        recipes = {"best": best, "default": self.given}
        runs = [
            Run(
                recipe.model_copy(update={"seed": seed}),
                self.out / "confirm" / run_folder(name, seed),
                self.inputs,
            )
            for seed in seeds
            for name, recipe in recipes.items()
        ]
        tops = []
        for record in train_many(runs, device=self.device):
            assert isinstance(record, RunRecord)  # anything else has been raised
            tops.append(float(record.last["test_top1"]))
        found = Confirmation(seeds=seeds, best=tuple(tops[0::2]), default=tuple(tops[1::2]))
        self.watch(f"on new seeds, {conclusion(found.comparison)}")
        return found

    def _result(self, parts: Parts, confirmation: Confirmation | None) -> SearchResult:
        """The search as it is now."""
        trials = self.store.trials()
        complete = [trial for trial in trials if trial.top1 is not None]
        best = max(complete, key=lambda trial: (trial.top1, -trial.number), default=None)
        path = self.out / SearchResult.FILE
        before = SearchResult.load(self.out) if path.exists() else None
        teacher = None
        if parts.teacher is not None:
            accuracy = self.inputs.accuracy
            teacher = NetworkFacts(
                name=self.teacher_name,
                parameters=count_parameters(parts.teacher),
                top1=None if accuracy is None else accuracy.top1,
                accuracy=accuracy,
            )
        fresh: dict[str, Any] = {}
        if before is None:
            fresh = {
                "environment": describe_environment(self.device, seed=self.recipe.seed),
                "provenance": describe_provenance(
                    self.recipe, parts.data, teacher=parts.teacher, started=self.study.started
                ),
            }
        else:
            fresh = {"environment": before.environment, "provenance": before.provenance}
            confirmation = confirmation or before.confirmation
        return SearchResult(
            path=self.out,
            outcome=JUDGED_BY,
            recipe=self.recipe.to_dict(),
            seeds=(self.recipe.seed,),
            wanted=max(self.options.trials, len(trials)),
            pruner=self.options.pruner,
            space=tuple(str(varied) for varied in self.space),
            trials=trials,
            best=None if best is None else best.number,
            default=self._default_of(trials),
            importances=self.store.importances(),
            confirmation=confirmation,
            data=DataFacts.of(parts.data, parts.teacher),
            teacher=teacher,
            student=NetworkFacts(
                name=self.recipe.student.network, parameters=count_parameters(parts.student)
            ),
            **fresh,
        )

    def _default_of(self, trials: Sequence[SearchTrial]) -> int | None:
        """Number of the trial with the recipe's own values; None without one."""
        if self.defaults is None:
            return None
        values = {varied.key: varied.text(self.defaults[varied.key]) for varied in self.space}
        return next((trial.number for trial in trials if trial.values == values), None)


class _Judge:
    """Reports the epochs of a trial, and ends it when they are not promising."""

    def __init__(self, opened: OpenTrial) -> None:
        self.opened, self.epochs = opened, 0

    def __call__(self, event: Event) -> None:
        if isinstance(event, EpochStarted):
            self.epochs = event.epochs
        elif isinstance(event, EpochFinished):
            epoch = int(event.metrics["epoch"])
            self.opened.report(epoch, float(event.metrics["val_top1"]), last=epoch == self.epochs)


def _with_validation(recipe: Recipe, inputs: Inputs, watch: Callable[[str], None]) -> Recipe:
    """The recipe with a validation split; a tenth of the training images unless it has one."""
    if recipe.data.val_fraction or inputs.data is not None:
        return recipe
    watch(f"{_HELD_OUT:.0%} of the training images are held out to judge trials (data.val_fraction)")
    return recipe.override(f"data.val_fraction={_HELD_OUT}")


def _text(values: Mapping[str, str]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())
