"""Hint points of a teacher of other classes that a look at its features chooses, such as ``at@chosen``."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pursuhint._util.atomic_files import make_folder
from pursuhint._util.provenance import now
from pursuhint._util.random_state import keep_random_state
from pursuhint.hints.rules import looks_at_teacher
from pursuhint.study.events import PhaseStarted, Watcher
from pursuhint.study.method import Method
from pursuhint.study.study import StudyOptions
from pursuhint.training.devices import build_accelerator
from pursuhint.training.final_plan import final_plan
from pursuhint.training.prepare_training import prepare
from pursuhint.training.recipe.resolve import resolve_recipe
from pursuhint.training.recipe.schema import HintsConfig, Recipe
from pursuhint.training.run_folder.environment import describe_provenance
from pursuhint.training.teacher_accuracy import accuracy_of_teacher


def with_chosen_points(
    methods: Sequence[Method], recipe: Recipe, folder: Path, *, options: StudyOptions, watch: Watcher
) -> tuple[Method, ...]:
    """The methods with the points that their rules choose, once for all seeds. Collective call.

    The teacher is analyzed on the training images of the student, as its classes are the ones to learn.
    What an earlier call has chosen is taken from the folder; an interrupted analysis resumes.

    Args:
        methods: any; those whose hint points do not depend on the teacher's features stay as they are.
        recipe: of the students, with the teacher's weights.
        folder: receives a folder a method, with ``hints.json`` and the analysis.
        options: device and the like.
        watch: receives a line a method.

    Raises:
        PursuhintError: the points cannot be chosen.
    """
    return tuple(
        _chosen(method, recipe, folder / method.folder, options=options, watch=watch)
        if method.hints is not None and looks_at_teacher(method.hints.strategy)
        else method
        for method in methods
    )


def _chosen(method: Method, recipe: Recipe, folder: Path, *, options: StudyOptions, watch: Watcher) -> Method:
    path = folder / "hints.json"
    accelerator = build_accelerator(options.device, recipe.precision)
    there = path.exists() and not options.overwrite  # which may be of another teacher
    accelerator.wait_for_everyone()  # all ranks look before one writes
    if not there:
        watch(PhaseStarted("analysis", f"choosing the hint points of {method.name} in the teacher"))
        started = now()
        resolved = resolve_recipe(recipe.model_copy(update={"losses": method.losses, "hints": method.hints}))
        with keep_random_state(options.device):
            parts = prepare(resolved)
            accuracy = accuracy_of_teacher(resolved, parts, device=options.device)
            if accelerator.is_main_process:
                if options.overwrite:
                    shutil.rmtree(folder, ignore_errors=True)
                make_folder(folder)
            accelerator.wait_for_everyone()
            plan = final_plan(folder, resolved, replace(parts, accuracy=accuracy), accelerator)
        if plan.provenance is None and accelerator.is_main_process:
            made = describe_provenance(resolved, parts.data, teacher=parts.teacher, started=started)
            replace(plan, provenance=made).save(path)
        accelerator.wait_for_everyone()
    return replace(method, hints=HintsConfig(file=str(path.absolute())))
