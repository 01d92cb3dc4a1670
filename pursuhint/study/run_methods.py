"""Which methods help? One student, one teacher, many losses, several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from pursuhint._util.atomic_files import make_folder, read_json, write_json
from pursuhint._util.devices import choose_device
from pursuhint._util.output_folder import remove_leftovers
from pursuhint._util.random_state import keep_random_state
from pursuhint.errors import PursuhintError
from pursuhint.losses import get_loss
from pursuhint.models.checkpoint import count_parameters
from pursuhint.study.comparison import DataFacts, NetworkFacts, SeedResult
from pursuhint.study.events import PhaseStarted, Watcher
from pursuhint.study.method import ALONE, Method, all_methods, parse_methods
from pursuhint.study.method_comparison import METHODS_FILE, MethodComparison, MethodResult, against
from pursuhint.study.run_arms import RunKey, check_seeds, run_folder, train_arms
from pursuhint.study.settings import StudySettings
from pursuhint.study.step_memory import step_memory
from pursuhint.study.teacher_facts import teacher_facts
from pursuhint.training.devices import build_accelerator
from pursuhint.training.events import ignore
from pursuhint.training.inputs import Inputs, Run
from pursuhint.training.loaders import training_loader
from pursuhint.training.multi_student.shared import SharedResources, SharedTeacher
from pursuhint.training.prepare_training import (
    Parts,
    build_distiller,
    prepare,
)
from pursuhint.training.recipe.resolve import needs_hints, resolve_recipe
from pursuhint.training.recipe.schema import LossConfig, Recipe
from pursuhint.training.run_folder.environment import describe_environment
from pursuhint.training.run_folder.record import RunRecord

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import nn

    from pursuhint.data import ImageData

__all__ = ["compare_methods"]

_MEMORY = "memory.json"
_MANY = 6  # so many sub-blocks of a method are listed by name


def compare_methods(
    recipe: Recipe,
    out: Path | str,
    *,
    methods: Sequence[str] | None = None,
    seeds: Sequence[int] = (0, 1, 2),
    device: torch.device | str | None = None,
    data: ImageData | None = None,
    teacher: nn.Module | None = None,
    at_once: int | None = None,
    streams: bool = False,
    on_event: Watcher | None = None,
) -> MethodComparison:
    """Train the same student by several methods, over several seeds, and compare.

    All runs of a seed train side by side: they start from the same student weights, see the same batches and
    share one pass of the teacher. The outcome is the test accuracy after the last epoch, whatever the best
    epoch was. Every method has the losses, weights and hyperparameters of its paper unless others are typed;
    none is tuned to the data. Every run is an ordinary run folder, ``OUT/arms/METHOD/seed-N``; the same call
    goes on where an interrupted one stopped and picks up what is finished, and one with more methods or seeds
    adds them. A run that fails (a loss that is not finite) is reported and does not stop the others.

    Args:
        recipe: student, teacher, data, optimiser, schedule; no losses. Its hints, if it has any, hold for all
            methods, in place of the points of each method's paper. Their strategy must not be ``chosen``:
            select the points first, and name them.
        out: folder of the study.
        methods: as `pursuhint.study.Method.parse` takes them; None for every loss of the table, less
            those that do not fit the networks.
        seeds: one run of every method each; at least one, better three or more.
        device: where to run; None for the best there is.
        data: used instead of the recipe's.
        teacher: used instead of the recipe's.
        at_once: at most so many students in training at the same time; None for all methods of a seed.
        streams: on a GPU, train them on streams of their own; see `pursuhint.training.train_many`.
        on_event: hears of `pursuhint.study.events` and of the steps that the students take together.

    Returns:
        The study, which is also in ``OUT/methods.json``.

    Raises:
        PursuhintError: unknown or repeated methods, one that was named and does not fit the networks,
            anything that is wrong with the recipe, or a folder that holds another study; all before anything
            is trained. Or the student alone could not be trained.
    """
    out = Path(out)
    chosen = parse_methods(all_methods() if methods is None else methods)
    _check(recipe, teacher, seeds)
    where = choose_device(device)
    with keep_random_state(where):
        accelerator = build_accelerator(where, recipe.precision)
        watch: Watcher = ignore if on_event is None or not accelerator.is_main_process else on_event
        study = _Study(recipe, out, accelerator, teacher, data, SharedResources(SharedTeacher()), watch)
        parts = study.parts(Method.parse("kd"))
        assert parts.teacher is not None
        inputs = Inputs(teacher=parts.teacher, data=parts.data).fingerprints()
        settings = StudySettings(
            "study of methods",
            recipe,
            inputs,
            {"methods": [method.name for method in chosen], "seeds": list(seeds)},
        )
        settings.matches(out)
        before = MethodComparison.load(out) if (out / METHODS_FILE).exists() else None
        memory, unfit = study.try_out(chosen)
        if unfit and methods is not None:
            raise PursuhintError("; ".join(f"method {name!r}: {why}" for name, why in unfit.items()))
        accelerator.wait_for_everyone()  # every process has looked before the first one writes
        if accelerator.is_main_process:
            make_folder(out)
            remove_leftovers(out)
            settings.save(out)  # first: it marks the folder as a study
            recipe.save(out / "recipe.yaml")
            write_json(out / _MEMORY, memory)
        fitting = [Method(ALONE, {}), *(method for method in chosen if method.name not in unfit)]
        results = train_arms(
            {(method.name, seed): study.planned(method, seed) for seed in seeds for method in fitting},
            same={},
            device=accelerator.device,
            at_once=at_once,
            streams=streams,
            keep_going=True,
            watch=watch,
        )
        comparison = study.summary(fitting, seeds, results, parts, memory, unfit, before)
        if accelerator.is_main_process:
            comparison.save()
        accelerator.wait_for_everyone()
    return comparison


@dataclass(frozen=True)
class _Study:
    """What all runs of a study share."""

    shared: Recipe
    out: Path
    accelerator: Accelerator
    teacher: nn.Module | None
    data: ImageData | None
    resources: SharedResources
    watch: Watcher

    def recipe(self, method: Method, seed: int) -> Recipe:
        """How a method trains. It says nothing of a teacher or of hints where no loss looks at them."""
        losses = method.losses or {"ce": LossConfig(weight=1.0)}
        hints = method.hints if self.shared.hints is None else self.shared.hints
        taught = any(get_loss(name).info.needs_teacher for name in losses)
        return self.shared.model_copy(
            update={
                "seed": seed,
                "losses": losses,
                "teacher": self.shared.teacher if taught else None,
                "hints": hints if needs_hints(losses) else None,
            }
        )

    def teacher_of(self, method: Method) -> nn.Module | None:
        """The teacher that was passed, if the method looks at one."""
        return self.teacher if any(get_loss(name).info.needs_teacher for name in method.losses) else None

    def inputs(self, method: Method) -> Inputs:
        """The data and, if the method looks at a teacher, the teacher that were passed."""
        return Inputs(teacher=self.teacher_of(method), data=self.data)

    def planned(self, method: Method, seed: int) -> Run:
        """One run."""
        folder = self.out / run_folder(method.folder, seed)
        return Run(self.recipe(method, seed), folder, self.inputs(method))

    def resolved(self, method: Method, seed: int = 0) -> Recipe:
        """The same with everything written out."""
        return resolve_recipe(self.recipe(method, seed), self.inputs(method))

    def parts(self, method: Method) -> Parts:
        """Data, networks and hint points of a method."""
        return prepare(self.resolved(method), self.inputs(method), resources=self.resources)

    def try_out(self, methods: Sequence[Method]) -> tuple[dict[str, int], dict[str, str]]:
        """Take one step of every method, on the CPU and in vain.

        Returns:
            Bytes that a step keeps, by method and for the student alone, and why others do not fit.
        """
        path = self.out / _MEMORY
        known = read_json(path, "memory of the methods") if path.exists() else {}
        memory: dict[str, int] = {}
        unfit: dict[str, str] = {}
        new = [method for method in (Method(ALONE, {}), *methods) if method.name not in known]
        if new:
            self.watch(PhaseStarted("check", f"trying {len(new)} ways of training"))
        for method in (Method(ALONE, {}), *methods):
            if method.name in known:
                memory[method.name] = int(known[method.name])
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

    def summary(
        self,
        methods: Sequence[Method],
        seeds: Sequence[int],
        results: Mapping[RunKey, RunRecord | PursuhintError],
        parts: Parts,
        memory: Mapping[str, int],
        unfit: Mapping[str, str],
        before: MethodComparison | None,
    ) -> MethodComparison:
        """Accuracies, statistics and sentences.

        Args:
            methods: those that were trained.
            seeds: in the order of the tables.
            results: of every method and seed.
            parts: data and networks.
            memory: by method.
            unfit: methods that do not fit, and why.
            before: what an earlier call has finished, perhaps with fewer methods or seeds.
        """
        failed, finished = dict(unfit), []
        for method in methods:
            records = {seed: results[method.name, seed] for seed in seeds}
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
                    title=method.title if method.losses else "student alone",
                    weights={name: term.weight for name, term in resolved.losses.items()},
                    hints=needs_hints(resolved.losses),
                    taps=_taps(results[method.name, seeds[0]]),
                    memory=memory[method.name],
                )
            )
        if ALONE in failed:
            raise PursuhintError(f"the student alone could not be trained: {failed[ALONE]}")
        controls = [name for name in (ALONE, "kd") if name in {method.name for method in finished}]
        pairs, sentences = against(finished, controls)
        images, device = parts.data, self.accelerator.device
        named = self.resolved(Method.parse("kd")).teacher
        assert named is not None
        return MethodComparison(
            path=self.out,
            recipe=self.shared.to_dict(),
            seeds=tuple(seeds),
            chosen_on="test" if images.val is None else "val",
            data=DataFacts.of(images),
            teacher=teacher_facts(self.shared, named.network, parts, device)
            if before is None
            else before.teacher,
            student=NetworkFacts(
                name=self.shared.student.network, parameters=count_parameters(parts.student)
            ),
            methods=tuple(finished),
            against=pairs,
            sentences=sentences,
            failed=failed,
            environment=describe_environment(device, seed=seeds[0]) if before is None else before.environment,
        )


def _taps(record: RunRecord | PursuhintError) -> dict[str, str]:
    """What every loss of a run but cross-entropy looks at, in words."""
    assert isinstance(record, RunRecord)  # methods with a failed run are listed elsewhere
    taps = {}
    for name in record.recipe.losses:
        kind, plan = get_loss(name), record.plans.get(name, record.plan)
        if name == "ce":
            continue
        if plan is None or not kind.needs_hint_plan():
            taps[name] = kind.info.taps
            continue
        modules = list(dict.fromkeys(point.module for point in plan.teacher_points))
        where = ", ".join(modules) if len(modules) <= _MANY else f"{len(modules)} sub-blocks"
        taps[name] = f"{where} ({plan.teacher_points[0].activation})"
    return taps


def _check(recipe: Recipe, teacher: nn.Module | None, seeds: Sequence[int]) -> None:
    if recipe.losses:
        raise PursuhintError(
            f"the recipe names losses ({', '.join(recipe.losses)}), but the methods of a study bring their "
            "own; leave them out, and name combinations as methods, such as crd+kd"
        )
    if recipe.teacher is None and teacher is None:
        raise PursuhintError("a study of methods needs a teacher; give teacher.network (--teacher)")
    if recipe.hints is not None and recipe.hints.strategy == "chosen":
        raise PursuhintError(
            "hints.strategy 'chosen' would analyse the teacher for every run; choose the points first "
            "(pursuhint analyze, pursuhint select) and give them with hints.file (--hints FILE)"
        )
    check_seeds(seeds)
