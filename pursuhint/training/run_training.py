"""Run one training: check everything first, then train, evaluate and save epoch by epoch."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim.lr_scheduler import LRScheduler

from pursuhint._util.arguments import READ_RECIPE, expect
from pursuhint._util.atomic_files import make_folder, write_json, write_text
from pursuhint._util.devices import choose_device
from pursuhint._util.distributed import is_main_process
from pursuhint._util.folder_lock import lock_folder
from pursuhint._util.output_folder import remove_leftovers
from pursuhint._util.provenance import BaseProvenance
from pursuhint._util.random_state import keep_random_state
from pursuhint._util.replace_folder import DifferentResult, check_replaceable, remove_result
from pursuhint.data import DataLike, ImageData, InputData, TextData
from pursuhint.data.tokenizer import FILE as TOKENIZER
from pursuhint.distillation.distiller import Distiller
from pursuhint.distillation.teacher_fsdp import check_shardable
from pursuhint.hints.plan import HintPlan
from pursuhint.losses.passed import losses_passed
from pursuhint.models.checkpoint import count_parameters
from pursuhint.models.normalization import converted_to
from pursuhint.models.teacher_accuracy import TeacherAccuracy
from pursuhint.training.devices import build_accelerator
from pursuhint.training.events import Event, HintsChosen, TeacherMeasured, ignore
from pursuhint.training.final_plan import final_plan
from pursuhint.training.inputs import Inputs, Run
from pursuhint.training.loop import READY, Position, last
from pursuhint.training.own_parts import OwnParts
from pursuhint.training.prepare_training import (
    Parts,
    build_distiller,
    check_plans,
    prepare,
)
from pursuhint.training.progress import shown
from pursuhint.training.recipe.dot_terms import check_processes
from pursuhint.training.recipe.recordable import check_apart
from pursuhint.training.recipe.resolve import resolve_recipe
from pursuhint.training.recipe.schema import Recipe
from pursuhint.training.resources import Resources
from pursuhint.training.run_folder.checkpoints import check_restorable, missing_weights
from pursuhint.training.run_folder.environment import (
    ENVIRONMENT,
    describe_environment,
    describe_provenance,
    stored_provenance,
)
from pursuhint.training.run_folder.files import read_environment
from pursuhint.training.run_folder.fingerprint import (
    check_same_run,
    data_moved,
    describe_data,
)
from pursuhint.training.run_folder.record import RunRecord, hints_file
from pursuhint.training.run_folder.trackers import check_trackers
from pursuhint.training.runner import Trainer
from pursuhint.training.signals import RunStopped, StopRequest, catch_signals, present_stop
from pursuhint.training.teacher_accuracy import accuracy_of_teacher
from pursuhint.training.teacher_recording import TeacherRecording, check_one_process

__all__ = ["train"]


def train(
    recipe: Recipe,
    out: Path | str,
    *,
    device: torch.device | str | None = None,
    on_event: Callable[[Event], None] | None = None,
    teacher: nn.Module | None = None,
    plan: HintPlan | None = None,
    data: DataLike | None = None,
    student: nn.Module | None = None,
    record_teacher: Path | str | None = None,
    overwrite: bool = False,
    losses: Mapping[str, Any] | None = None,
    optimizer: Callable[[list[nn.Parameter]], torch.optim.Optimizer] | None = None,
    scheduler: Callable[[torch.optim.Optimizer], LRScheduler] | None = None,
    callbacks: Sequence[Callable[[Event, Distiller], object]] = (),
    progress: bool | None = None,
) -> RunRecord:
    """Train a student, alone or with a teacher, and write a run folder.

    Everything is checked before anything is written. The same call on the folder of an interrupted run
    resumes from the last saved state (saved after every epoch, and every ``save_every_steps`` steps of the
    recipe) and gives the result of an uninterrupted run (bit for bit on the CPU with the same number of
    threads, wall times aside); on the folder of a finished run it returns the record, and restores deleted
    weights from the last state. The best epoch is the first with the highest top-1 accuracy on the validation
    split, or on the test split where there is none; ``result.json`` says which.

    SIGTERM, SIGHUP and SIGINT (Ctrl-C) during training make it save its state after the present step and
    raise `pursuhint.training.RunStopped`.

    Args:
        recipe: what to do.
        out: the run folder. It must not hold a different run.
        device: where to train; None for the best there is. Under ``accelerate launch`` each process has its
            own of that type.
        on_event: receives every `pursuhint.training.Event`.
        teacher: a trained network to use instead of the recipe's. It is copied.
        plan: hint points to use instead of the recipe's.
        data: data to use instead of the recipe's: a pair (train, test) of data sets, loaders or arrays, or
            what else `pursuhint.data.as_data` takes.
        student: a network to use instead of the recipe's, with its weights as the initial ones. It is copied;
            ``record.load_student(network=student)`` returns one with the trained weights.
        record_teacher: folder of a recording of the teacher's outputs, for this teacher, data, augmentation,
            batch size and seed alone: what is in it is replayed, and the rest is computed and recorded for
            other students, losses and weights. The result is that of the same recipe without a recording, up
            to the rounding of speed settings; ``acceleration.teacher_rounding`` makes recordings smaller.
        overwrite: replace a run of other settings, networks or data in the folder, once everything has been
            checked; files that are not of a run are never removed. The same run resumes.
        losses: by name, losses beside the recipe's: a `pursuhint.losses.Loss` (an instance, of which a copy
            is trained, or a class, built for the networks), or a function or module whose parameters are
            named after what it looks at: ``student_logits``, ``teacher_logits``, ``student_maps``,
            ``teacher_maps``, ``student_embedding``, ``teacher_embedding``, ``labels``, ``images``,
            ``indices``, and with ``data.second_view`` ``student_second_logits`` and
            ``teacher_second_logits``. A pair is (loss, weight). In the run they are called ``python:NAME``.
        optimizer: from the list of trained parameters to the optimizer of the main stage, such as
            ``lambda parameters: torch.optim.Adam(parameters, 1e-3)``. The recipe's schedule scales its rates.
        scheduler: from the optimizer to a scheduler in place of the recipe's schedule; it steps by epochs.
        callbacks: called with every event and the `pursuhint.Distiller`.
        progress: show a bar: True, False, or None for where somebody looks (a terminal, a notebook) and
            ``on_event`` is not given.

    A run with losses, optimizer, scheduler or callbacks of one's own says so in its ``recipe.yaml``
    (``passed``), which alone does not repeat it. It resumes when they are passed again, and is refused when
    they are missing.

    Returns:
        The record of the finished run.

    Raises:
        PursuhintError: the recipe, or a file or network that it names, is wrong; the folder holds a different
            run, cannot be written or is being written by another process; a loss was not finite; the
            recording is of another teacher, data, augmentation or seed. Earlier saved states are kept.
        RunStopped: a signal asked the run to stop; it has been saved. Uncaught, this ends the process
            with status 143 (SIGTERM), 129 (SIGHUP) or 130 (Ctrl-C).

    Example:
        >>> record = train(Recipe.load("digits-vanilla"), "runs/digits")
        >>> record.best["test_top1"]
    """
    expect(recipe, Recipe, "the recipe", advice=READ_RECIPE)
    device = choose_device(device)
    stop = present_stop()
    if stop.signal is not None:
        raise RunStopped(stop.signal, f"stopped before the run in {out} began; the same call continues")
    own = OwnParts(losses or {}, optimizer, scheduler, tuple(callbacks))
    with (
        keep_random_state(device),
        losses_passed(own.kinds()),
        shown(progress, on_event) as watch,
    ):
        inputs = Inputs(student, teacher, data, plan, own=own)
        recording = None if record_teacher is None else Path(record_teacher)
        steps = run_steps(
            Run(recipe, Path(out), inputs, watch, recording, overwrite), device=device, stop=stop
        )
        try:
            next(steps)
        except StopIteration as finished:
            record: RunRecord = finished.value
            return record
        with catch_signals(stop):  # from here on there is something to save
            return last(steps)


def run_steps(
    run: Run,
    *,
    device: torch.device,
    resources: Resources | None = None,
    stop: StopRequest | None = None,
) -> Generator[Position, None, RunRecord]:
    """`train` as a generator that pauses before every step, so that several runs can be interleaved.

    The caller that interleaves them must restore each run's global random generators before resuming it.

    Args:
        run: recipe, folder, inputs and event handler.
        device: where to train.
        resources: supplies data, teacher and batches, which several runs may share; None for a run alone.
        stop: a request to save and stop; see `pursuhint.training.signals`.

    Yields:
        `READY` once everything has been checked and built, unless the run is finished; then as
        `pursuhint.training.loop.TrainingLoop`.

    Returns:
        The record of the finished run.

    Raises:
        PursuhintError: as `train`.
        RunStopped: the run was asked to stop, and has been saved.
    """
    recipe, folder = run.recipe, run.out
    tell = run.on_event if run.on_event is not None else ignore
    resources = Resources() if resources is None else resources
    resolved = resolve_recipe(recipe, run.inputs)
    check_trackers(resolved.trackers)
    if run.record_teacher is not None:
        check_apart(run.record_teacher, folder)
    fingerprints = run.inputs.fingerprints(resolved)
    passed = run.inputs.data
    held = _held(run, resolved, fingerprints, passed)
    finished = held == "this run" and (folder / "result.json").exists()
    if finished and (lost := missing_weights(folder)):
        check_restorable(folder, lost)  # from here on as a run whose state is that of its end
        finished = False
    if finished and not run.overwrite and not data_moved(folder, resolved):
        return RunRecord.load(folder, is_main_process=is_main_process())
    with contextlib.ExitStack() as stack:
        accelerator = build_accelerator(device, resolved.precision)
        if resolved.acceleration.shard_teacher:
            check_shardable(resolved.losses, accelerator.num_processes)
        check_processes(resolved, accelerator.num_processes)
        parts = prepare(resolved, run.inputs.with_plan_of(recipe), resources=resources)
        held = _held(run, resolved, fingerprints, parts.data)
        if finished and held == "this run":
            return RunRecord.load(folder, is_main_process=is_main_process())
        check_plans(recipe, run.inputs.plan, parts.teacher)
        recording = None
        if run.record_teacher is not None:
            check_one_process(accelerator.num_processes)
            recording = resources.recording(TeacherRecording.of_run(run.record_teacher, resolved, parts))
            stack.callback(resources.close)
        if parts.plan is not None or resolved.hints is None:
            distiller = build_distiller(resolved, parts, parts.plan)
        make_folder(folder)
        if accelerator.is_main_process:
            stack.enter_context(lock_folder(folder))
            if "another run" in (held, _held(run, resolved, fingerprints)):  # nobody else writes from here on
                remove_result(folder, "run")
            remove_leftovers(folder)
            made = _describe(folder, resolved, parts, fingerprints, accelerator)
            parts = parts.with_provenance(made)
        if parts.teacher is not None:
            accuracy = _measure_teacher(run, resolved, parts, accelerator, resources)
            parts = replace(parts, accuracy=accuracy)
            tell(TeacherMeasured(accuracy))
        chosen = None
        if resolved.hints is not None:
            chosen = final_plan(folder, resolved, parts, accelerator)
            if parts.plan is None:
                distiller = build_distiller(resolved, parts, chosen)
        if accelerator.is_main_process:
            for name, plan in parts.plans.items():
                plan.save(folder / hints_file(name))
        pairs = _pairs(chosen, parts.plans)
        if pairs:
            tell(HintsChosen(pairs))
        trainer = Trainer(
            folder, resolved, parts.data, distiller, accelerator, tell, resources, stop, recording,
            own=run.inputs.own,
        )  # fmt: skip
        yield READY
        yield from trainer.steps()
        if accelerator.is_main_process:
            _note_the_end(folder)
    return RunRecord.load(folder, is_main_process=accelerator.is_main_process)


def _held(
    run: Run, recipe: Recipe, inputs: Mapping[str, str], data: ImageData | InputData | None = None
) -> Literal["nothing", "this run", "another run"]:
    """What the folder of a run holds before it begins; see `check_same_run`.

    Raises:
        PursuhintError: something else, or another run that is not to be replaced, or that has strangers'
            files beside it.
    """
    try:
        return "this run" if check_same_run(run.out, recipe, inputs, data) else "nothing"
    except DifferentResult:
        if not run.overwrite:
            raise
        check_replaceable(run.out, "run", locked=True)
        return "another run"


def _measure_teacher(
    run: Run, recipe: Recipe, parts: Parts, accelerator: Accelerator, resources: Resources
) -> TeacherAccuracy:
    """The accuracy of the teacher, kept in environment.json; measured unless that or a study has it."""
    path = run.out / ENVIRONMENT
    accelerator.wait_for_everyone()  # the file is complete
    before = read_environment(run.out)
    accelerator.wait_for_everyone()  # every rank has read it before one of them writes
    known = before.get("teacher")
    if run.inputs.accuracy is not None:
        accuracy = run.inputs.accuracy
    elif known is not None:
        accuracy = TeacherAccuracy.from_dict(known)
        accuracy.warn()
    else:
        accuracy = resources.accuracy(
            recipe, lambda: accuracy_of_teacher(recipe, parts, device=accelerator.device)
        )
    if known is None and accelerator.is_main_process:
        write_json(path, {**before, "teacher": accuracy.to_dict()})
    return accuracy


def _pairs(shared: HintPlan | None, own: Mapping[str, HintPlan]) -> tuple[str, ...]:
    """The pairs of hint points in words, with the loss in front where it has its own."""
    plans = [("", shared), *((f"{name}: ", plan) for name, plan in own.items())]
    return tuple(
        f"{which}{line}"
        for which, plan in plans
        if plan is not None
        for line in (
            [f"{pair.teacher} -> {pair.student}" for pair in plan.pairs]
            if plan.schedule is None
            else [plan.schedule.sentence(len(set(plan.teacher_points)))]
        )
    )


def _describe(
    folder: Path, recipe: Recipe, parts: Parts, fingerprints: Mapping[str, str], accelerator: Accelerator
) -> BaseProvenance | None:
    """Write recipe.yaml and environment.json; a resumed run adds its environment to the list there.

    Returns:
        Where the run comes from; None for a run that an older version began.
    """
    path = folder / ENVIRONMENT
    now = describe_environment(accelerator.device, seed=recipe.seed, processes=accelerator.num_processes)
    if (folder / "recipe.yaml").exists() and path.exists():
        before = read_environment(folder)
        write_json(path, {**before, "resumed": [*before.get("resumed", []), now]})
        return stored_provenance(before)
    converted = None if parts.teacher is None else converted_to(parts.teacher)
    teacher_normalization = None if converted is None else asdict(converted)
    data = {**describe_data(parts.data), "teacher_normalization": teacher_normalization}
    parameters = {"student": count_parameters(parts.student)}
    if parts.teacher is not None:
        parameters["teacher"] = count_parameters(parts.teacher)
    made = describe_provenance(recipe, parts.data, teacher=parts.teacher, started=now["started"])
    if parts.loaded.new:
        now["student_weights"] = {"new": list(parts.loaded.new), "unused": list(parts.loaded.unused)}
    if isinstance(parts.data, TextData):
        write_text(folder / TOKENIZER, parts.data.tokenizer)
    description = {**now, "provenance": asdict(made), "data": data, "parameters": parameters}
    write_json(path, {**description, "inputs": dict(fingerprints), "resumed": []})
    stored = recipe.data.model_copy(update={"download": False})  # each command asks for its own downloads
    recipe.model_copy(update={"data": stored}).save(folder / "recipe.yaml")
    return made


def _note_the_end(folder: Path) -> None:
    """Write into environment.json when the run ended."""
    path = folder / ENVIRONMENT
    values = read_environment(folder)
    made = stored_provenance(values)
    if made is not None and not made.ended:
        write_json(path, {**values, "provenance": asdict(made.finished())})
