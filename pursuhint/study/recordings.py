"""Recordings of the teacher that the students of a study share: one for every seed."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pursuhint._util.text import file_size
from pursuhint._util.wrappers import copy_network
from pursuhint.distillation.recorded_teacher import RecordedTeacher, output_names
from pursuhint.distillation.teacher import ROUNDINGS, TeacherOutputs
from pursuhint.errors import PursuhintError
from pursuhint.study.events import PhaseStarted, Watcher
from pursuhint.study.run_key import RunKey
from pursuhint.training.inputs import Run
from pursuhint.training.multi_student.shared import SharedResources, SharedTeacher
from pursuhint.training.prepare_training import Parts, build_distiller, prepare
from pursuhint.training.recipe.resolve import resolve_recipe
from pursuhint.training.recipe.schema import Recipe
from pursuhint.training.teacher_recording import (
    TeacherRecording,
    check_one_process,
    is_recording,
    values_per_sample,
)


def seed_folder(folder: Path, seed: int) -> Path:
    """Where the recording of a seed lies."""
    return folder / f"seed-{seed}"


def check_recordings(
    folder: Path, recipe: Recipe, parts: Parts, *, seeds: Sequence[int], processes: int
) -> None:
    """Check the recordings of all seeds before anything is trained. Nothing is written.

    Args:
        folder: of all recordings.
        recipe: resolved; all runs share its teacher, data, augmentation, batch size and precision.
        parts: data and teacher.
        seeds: of the study.
        processes: of the study.

    Raises:
        PursuhintError: a folder holds the recording of another pass; or this one cannot be recorded.
    """
    check_one_process(processes)
    if is_recording(folder):
        raise PursuhintError(
            f"{folder} is the recording of one seed, and a study keeps one for every seed, in DIR/seed-N; "
            "choose another folder (--record-teacher)"
        )
    first = TeacherRecording.of_run(
        seed_folder(folder, seeds[0]), recipe.model_copy(update={"seed": seeds[0]}), parts
    )
    for seed in seeds[1:]:
        first.of_seed(seed_folder(folder, seed), seed)


def with_recordings(runs: Mapping[RunKey, Run], folder: Path) -> dict[RunKey, Run]:
    """The runs of a study, those with a teacher with the recording of their seed."""
    return {
        key: replace(run, record_teacher=seed_folder(folder, key.seed))
        if run.recipe.teacher is not None or run.inputs.teacher is not None
        else run
        for key, run in runs.items()
    }


def announce_recordings(runs: Mapping[RunKey, Run], folder: Path, watch: Watcher) -> None:
    """Say how much of the teacher is replayed, and how much room recording the rest takes.

    The outputs that are looked at are those of the first seed's runs; where hint points differ by seed, the
    others take about as much.

    Args:
        runs: of all seeds, with their recordings.
        folder: of all recordings.
        watch: receives a `PhaseStarted`.

    Raises:
        PursuhintError: there is not enough room.
    """
    taught = {key: run for key, run in runs.items() if run.record_teacher is not None and not _ended(run)}
    if not taught:
        return
    seeds = list(dict.fromkeys(key.seed for key in taught))
    wanted = _Wanted([run for key, run in taught.items() if key.seed == seeds[0]])
    replayed = missing = 0
    for seed in seeds:
        recorded = RecordedTeacher(seed_folder(folder, seed), wanted.samples, 1)
        for epoch in range(1, wanted.epochs + 1):
            sizes = wanted.sizes(epoch)
            left = [size for name, size in sizes.items() if not recorded.path(epoch, name).exists()]
            replayed += not left
            missing += sum(left)
    what = f"the teacher's outputs in {folder}: {replayed} of {len(seeds) * wanted.epochs} epochs replayed"
    if missing:
        what += f", the others take about {file_size(missing)}"
    watch(PhaseStarted("recording", what))
    free = shutil.disk_usage(_existing(folder)).free
    if missing > free:
        raise PursuhintError(
            f"recording the teacher needs about {file_size(missing)}, and {folder} has {file_size(free)} "
            "free; make room, choose another folder, or leave --record-teacher out"
        )


class _Wanted:
    """What the runs of a seed look at in every epoch, and its size."""

    def __init__(self, runs: Sequence[Run]) -> None:
        resources = SharedResources(SharedTeacher())
        self._outputs: list[tuple[int, TeacherOutputs]] = []
        self._sizes: dict[str, int] = {}
        for run in runs:
            resolved = resolve_recipe(run.recipe, run.inputs)
            parts = prepare(resolved, run.inputs.with_plan_of(run.recipe), resources=resources)
            self.samples = len(parts.data.train)
            assert parts.teacher is not None
            trial = replace(parts, student=copy_network(parts.student))
            outputs = build_distiller(resolved, trial, parts.plan).teacher_outputs or TeacherOutputs()
            self._outputs.append((resolved.epochs, outputs))
            stored = ROUNDINGS[resolved.acceleration.teacher_rounding]
            width = self.samples * (4 if stored is None else stored.itemsize)
            if not set(output_names(outputs)) <= set(self._sizes):
                numbers = values_per_sample(parts.teacher, outputs, parts.data)
                self._sizes |= {name: number * width for name, number in numbers.items()}
        self.epochs = max(epochs for epochs, _ in self._outputs)

    def sizes(self, epoch: int) -> dict[str, int]:
        """Bytes of every output that a run looks at in an epoch, from 1."""
        own = [outputs for epochs, outputs in self._outputs if epochs >= epoch]
        return {name: self._sizes[name] for name in output_names(TeacherOutputs.union(own))}


def _ended(run: Run) -> bool:
    return (run.out / "result.json").exists()


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.resolve()
    return folder if folder.exists() else _existing(folder.parent)
