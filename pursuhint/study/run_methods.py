"""Which methods help? One student, one teacher, many losses, several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from pursuhint._util.arguments import READ_RECIPE, expect
from pursuhint._util.atomic_files import write_json
from pursuhint._util.devices import choose_device
from pursuhint.errors import PursuhintError
from pursuhint.hints.rules import looks_at_teacher
from pursuhint.losses import get_loss
from pursuhint.losses.passed import losses_passed
from pursuhint.study.arm_result import SeedResult
from pursuhint.study.equality import MARGIN, check_margin
from pursuhint.study.events import PhaseStarted, Watcher
from pursuhint.study.image_differences import read_image_hits
from pursuhint.study.method import ALONE, Method, all_methods, parse_methods, with_own_losses
from pursuhint.study.method_comparison import MethodComparison, MethodResult, against
from pursuhint.study.progress import study_under_way
from pursuhint.study.run_arms import check_seeds, run_folder
from pursuhint.study.run_key import RunKey
from pursuhint.study.sequential import SequentialPlan
from pursuhint.study.settings import StudySettings
from pursuhint.study.step_memory import read_memory, step_memory
from pursuhint.study.study import Study, StudyOptions
from pursuhint.study.until_decided import SequentialResult
from pursuhint.training.inputs import Inputs, Run
from pursuhint.training.loaders import training_loader
from pursuhint.training.multi_student.shared import SharedResources, SharedTeacher
from pursuhint.training.own_parts import OwnParts
from pursuhint.training.prepare_training import (
    Parts,
    build_distiller,
    prepare,
)
from pursuhint.training.recipe.recordable import check_recordable
from pursuhint.training.recipe.resolve import needs_hints, resolve_recipe, with_absolute_paths
from pursuhint.training.recipe.schema import LossConfig, Recipe
from pursuhint.training.recipe.second_view import check_second_view, data_of_losses
from pursuhint.training.run_folder.record import RunRecord
from pursuhint.training.signals import share_stop

if TYPE_CHECKING:
    from torch import nn

    from pursuhint.data import DataLike

__all__ = ["compare_methods"]

_MEMORY = "memory.json"
_MANY = 6  # so many sub-blocks of a method are listed by name


@share_stop()
def compare_methods(
    recipe: Recipe,
    out: Path | str,
    *,
    methods: Sequence[str | Method] | None = None,
    seeds: Sequence[int] = (0, 1, 2, 3, 4),
    device: torch.device | str | None = None,
    data: DataLike | None = None,
    teacher: nn.Module | None = None,
    at_once: int | None = None,
    streams: bool = False,
    margin: float = MARGIN,
    max_seeds: int | None = None,
    on_event: Watcher | None = None,
    overwrite: bool = False,
    record_teacher: Path | str | None = None,
    losses: Mapping[str, Any] | None = None,
    progress: bool | None = None,
) -> MethodComparison:
    """Train the same student by several methods, over several seeds, and compare.

    All runs of a seed train side by side: they start from the same student weights, see the same batches and
    share one pass of the teacher. The outcome is the test accuracy after the last epoch, not after the best
    one. Every method has the losses, weights and hyperparameters of its paper unless others are typed;
    none is tuned to the data. Every run is an ordinary run folder, ``OUT/arms/METHOD/seed-N``. The same
    call resumes an interrupted one and reuses finished runs; with more methods or seeds it adds them. A run
    that fails (a loss that is not finite) is reported and does not stop the others.

    Args:
        recipe: student, teacher, data, optimiser, schedule; no losses. Its hints, if it has any, hold for all
            methods, in place of the points of each method's paper. They must not
            depend on the teacher's features (``chosen``): select the points first, and name them.
        out: folder of the study.
        methods: losses as ``--loss`` takes them, joined by ``+`` (``kd``, ``crd+kd``, ``at=500``), or
            ``recipe:NAME`` for the losses and hints of a recipe; None for every loss of the table, except
            those that do not fit the networks, and each of ``losses``.
        seeds: one run of every method each; at least one. Fewer than three give no intervals.
        device: where to run; None for the best there is.
        data: used instead of the recipe's; as `pursuhint.training.train` takes them.
        teacher: used instead of the recipe's.
        at_once: most students in training concurrently; None for all methods of a seed.
        streams: on a GPU, train them on streams of their own; see `pursuhint.training.train_many`.
        margin: the smallest difference that matters, in points: a method and a control are called equal if
            their difference is shown to be smaller. It affects verdicts, not runs.
        max_seeds: begin with ``seeds``, at least three, and add the integers after them until every method is
            better, worse or equal to KD (to the student alone, where KD is not among the methods) after the
            correction, or there are so many; see `pursuhint.study.SequentialPlan` for the looks and their
            error. None trains ``seeds`` and no more.
        on_event: receives `pursuhint.study.StudyEvent`.
        overwrite: replace a study of other settings, networks or data in the folder, or one with more methods
            or seeds, once everything has been checked; the same one continues, and files of others are never
            removed.
        record_teacher: folder that gets a recording of the teacher's outputs for every seed, ``seed-N``; what
            is in it is replayed. Later studies of these seeds replay it for other arms, losses, weights and
            students. See `pursuhint.training.train`.
        losses: by name, losses of your own, as `pursuhint.training.train` takes them. Methods name them as
            those of the table, ``mine`` or ``kd+mine=10``; one that no method names is a method by itself.
        progress: show a bar: True, False, or None for where somebody looks (a terminal, a notebook) and
            ``on_event`` is not given.

    Returns:
        The study, which is also in ``OUT/methods.json``.

    Raises:
        PursuhintError: unknown or repeated methods, one that was named and does not fit the networks,
            anything that is wrong with the recipe, or a folder that holds another study; all before anything
            is trained. Or the student alone could not be trained.
    """
    own = OwnParts(losses or {})
    with losses_passed(own.kinds()):
        asked = all_methods() if methods is None else tuple(methods)
        chosen = with_own_losses(parse_methods(asked) if asked else (), own.losses)
    _check(recipe, teacher, seeds)
    own.check_those_of(recipe)
    check_margin(margin)
    plan = None if max_seeds is None else SequentialPlan(len(seeds), max_seeds)
    recipe = with_absolute_paths(recipe)
    recordings = None if record_teacher is None else Path(record_teacher)
    how = StudyOptions(choose_device(device), at_once, streams, on_event, overwrite, recordings)
    with study_under_way(how, own, progress) as options:
        recipe = recipe.model_copy(update={"passed": own.names()})
        study = Study(recipe, Path(out), Inputs(teacher=teacher, data=data, own=own), options)
        if recipe.data.second_view:  # of which each method has its own
            named_losses = {name: loss for method in chosen for name, loss in method.losses.items()}
            check_second_view(recipe.model_copy(update={"losses": named_losses}))
        trials = _Trials(study, SharedResources(SharedTeacher()))
        parts = trials.parts(Method.parse("kd"))
        assert parts.teacher is not None
        inputs = Inputs(teacher=parts.teacher, data=parts.data, own=own).fingerprints() | own.weights()

        def settings_with(seeds: Sequence[int]) -> StudySettings:
            lists: dict[str, Sequence[Any]] = {
                "methods": [method.name for method in chosen],
                "seeds": list(seeds),
            }
            return StudySettings("study of methods", recipe, inputs=inputs, data=parts.data, lists=lists)

        begun = study.begin(MethodComparison, settings_with, seeds=seeds, plan=plan)
        looks, before = begun.looks, begun.before
        memory, unfit = trials.take((Method(ALONE, {}), *chosen))
        if unfit and methods is not None:
            raise PursuhintError("; ".join(f"method {name!r}: {why}" for name, why in unfit.items()))
        if recordings is not None:
            for method in chosen:
                if any(get_loss(name).info.needs_teacher for name in method.losses):
                    check_recordable(trials.resolved(method))
            study.check_recordings(trials.resolved(Method.parse("kd")), parts, looks[-1])
        study.claim(settings_with(looks[0]))
        study.measure_teacher(parts, None if before is None else before.teacher)
        if study.is_main_process:
            write_json(study.out / _MEMORY, memory)
        fitting = [Method(ALONE, {}), *(method for method in chosen if method.name not in unfit)]
        named = trials.resolved(Method.parse("kd")).teacher
        assert named is not None
        results: dict[RunKey, RunRecord | PursuhintError] = {}
        for look in looks:
            if look != looks[0]:
                study.claim(settings_with(look))
            keys = {RunKey(method.name, seed): method for seed in look for method in fitting}
            runs = {key: trials.make_run(keys[key], key.seed) for key in keys if key not in results}
            results |= study.train(runs, same={}, keep_going=True)
            finished, failed = trials.results(fitting, look, results, memory=memory)
            failed = unfit | failed
            if ALONE in failed:
                raise PursuhintError(f"the student alone could not be trained: {failed[ALONE]}")
            controls = [name for name in (ALONE, "kd") if name in {method.name for method in finished}]
            pairs, sentences = against(
                finished,
                controls,
                margin=margin,
                confidence=0.95 if plan is None else plan.confidence(len(look)),
                hits=read_image_hits(study.out, finished),
                grain=100 / len(parts.data.test),
            )
            sequential = (
                None if plan is None else SequentialResult.of(plan, finished, pairs, control=controls[-1])
            )
            result = study.finish(
                MethodComparison(
                    **study.facts(parts, teacher=named.network, seeds=look, before=before),
                    margin=margin,
                    methods=finished,
                    against=pairs,
                    sentences=sentences,
                    failed=failed,
                    sequential=sequential,
                )
            )
            if sequential is None or sequential.decided or look == looks[-1]:
                break
            titles = {method.name: method.title for method in finished}
            study.watch(PhaseStarted("seeds", sequential.sentence(titles)))
        return result


@dataclass(frozen=True)
class _Trials:
    """Makes the runs of every method, and tries a step of each before any is trained.

    Attributes:
        study: folder, processes and settings.
        resources: data and teacher, loaded once for the trials of all methods.
    """

    study: Study
    resources: SharedResources

    def recipe(self, method: Method, seed: int) -> Recipe:
        """The recipe of a run. It has a teacher, hints and a second view only if a loss looks at them."""
        losses = method.losses or {"ce": LossConfig(weight=1.0)}
        hints = method.hints if self.study.recipe.hints is None else self.study.recipe.hints
        taught = any(get_loss(name).info.needs_teacher for name in losses)
        shared = self.study.recipe
        data = shared.data
        if method.second_view and not data.second_view:
            data = data.model_copy(update={"second_view": method.second_view})
        return shared.model_copy(
            update={
                "seed": seed,
                "losses": losses,
                "data": data_of_losses(data, losses, taught=taught),
                "optimizer": shared.optimizer if taught else shared.optimizer.of_labels_alone,
                "teacher": shared.teacher if taught else None,
                "hints": hints if needs_hints(losses) else None,
                "passed": self.study.passed.own.weighted(losses).names(),
            }
        )

    def inputs(self, method: Method) -> Inputs:
        """The data that were passed, and the teacher if the method looks at one."""
        passed = self.study.passed
        taught = any(get_loss(name).info.needs_teacher for name in method.losses)
        return Inputs(
            teacher=passed.teacher if taught else None,
            data=passed.data,
            accuracy=self.study.accuracy if taught else None,
            own=passed.own.weighted(method.losses),
        )

    def make_run(self, method: Method, seed: int) -> Run:
        """One run of a method."""
        folder = self.study.out / run_folder(method.folder, seed)
        return Run(self.recipe(method, seed), folder, self.inputs(method))

    def resolved(self, method: Method, seed: int = 0) -> Recipe:
        """The recipe of a run with all defaults written out."""
        return resolve_recipe(self.recipe(method, seed), self.inputs(method))

    def parts(self, method: Method) -> Parts:
        """Data, networks and hint points of a method."""
        return prepare(self.resolved(method), self.inputs(method), resources=self.resources)

    def take(self, methods: Sequence[Method]) -> tuple[dict[str, int], dict[str, str]]:
        """Dry-run one CPU training step per method, to measure memory and to find methods that do not fit.

        Methods whose memory an earlier call has measured are skipped.

        Returns:
            Bytes that a step keeps, by method; and for methods that do not fit the networks, why.
        """
        path = self.study.out / _MEMORY
        known = read_memory(path) if path.exists() and not self.study.replaces else {}
        memory: dict[str, int] = {}
        unfit: dict[str, str] = {}
        new = [method for method in methods if method.name not in known]
        if new:
            self.study.watch(PhaseStarted("check", f"trying {len(new)} ways of training"))
        for method in methods:
            if method.name in known:
                memory[method.name] = known[method.name]
                continue
            try:
                memory[method.name] = self._memory(method)
            except PursuhintError as error:
                unfit[method.name] = str(error)
        return memory, unfit

    def _memory(self, method: Method) -> int:
        resolved, parts = self.resolved(method), self.parts(method)
        distiller = build_distiller(resolved, parts, parts.plan).train()
        loader = training_loader(resolved, parts.data, torch.device("cpu"), (0, 1))
        return step_memory(distiller, next(loader.epoch(0)), optimizer=resolved.optimizer.name)

    def results(
        self,
        methods: Sequence[Method],
        seeds: Sequence[int],
        results: Mapping[RunKey, RunRecord | PursuhintError],
        *,
        memory: Mapping[str, int],
    ) -> tuple[tuple[MethodResult, ...], dict[str, str]]:
        """Accuracies of the methods whose runs all finished; for the others, why they failed.

        Args:
            methods: those that were trained.
            seeds: in the order of the tables.
            results: of every method and seed.
            memory: bytes that a step keeps, by method.
        """
        finished, failed = [], {}
        for method in methods:
            records = {seed: results[RunKey(method.name, seed)] for seed in seeds}
            errors = {seed: str(r) for seed, r in records.items() if isinstance(r, PursuhintError)}
            if errors:
                failed[method.name] = "; ".join(f"seed {seed}: {why}" for seed, why in errors.items())
                continue
            resolved = self.resolved(method)
            finished.append(
                MethodResult.of(
                    [
                        SeedResult.of(seed, run_folder(method.folder, seed), r.plan, r)
                        for seed, r in records.items()
                        if isinstance(r, RunRecord)
                    ],
                    name=method.name,
                    title=method.title_with(resolved.optimizer.name) if method.losses else "student alone",
                    weights={name: term.weight for name, term in resolved.losses.items()},
                    hints=needs_hints(resolved.losses),
                    taps=_taps(records[seeds[0]]),
                    memory=memory[method.name],
                )
            )
        return tuple(finished), failed


def _taps(record: RunRecord | PursuhintError) -> dict[str, str]:
    """The features that each loss of a run compares, cross-entropy excepted, in words."""
    assert isinstance(record, RunRecord)  # methods with a failed run are listed elsewhere
    taps = {}
    for name in record.recipe.losses:
        kind, plan = get_loss(name), record.plans.get(name, record.plan)
        if name == "ce":
            continue
        if plan is None or not kind.needs_hint_plan():
            both = kind.info.sees_second_view and record.recipe.data.second_view
            seen = kind.looks_at(record.recipe.losses[name].options)
            taps[name] = f"{seen} of two views" if both else seen
            continue
        modules = list(dict.fromkeys(point.module for point in plan.teacher_points))
        where = ", ".join(modules) if len(modules) <= _MANY else f"{len(modules)} sub-blocks"
        taps[name] = f"{where} ({plan.teacher_points[0].activation})"
    return taps


def _check(recipe: Recipe, teacher: nn.Module | None, seeds: Sequence[int]) -> None:
    expect(recipe, Recipe, "the recipe", advice=READ_RECIPE)
    if recipe.losses:
        raise PursuhintError(
            f"the recipe names losses ({', '.join(recipe.losses)}), but the methods of a study bring their "
            "own; leave them out, and name combinations as methods, such as crd+kd"
        )
    if recipe.teacher is None and teacher is None:
        raise PursuhintError("a study of methods needs a teacher; give teacher.network (--teacher)")
    if recipe.hints is not None and looks_at_teacher(recipe.hints.strategy):
        raise PursuhintError(
            f"hints.strategy {recipe.hints.strategy!r} would analyse the teacher for every run; choose the "
            "points first "
            "(pursuhint analyze, pursuhint select) and give them with hints.file (--hints FILE)"
        )
    check_seeds(seeds)
