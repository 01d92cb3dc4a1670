"""A run: everything checked first, then trained, evaluated and saved epoch by epoch."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from pursuhint.analysis import Analysis, analyze
from pursuhint.data import ImageData, Loader
from pursuhint.distiller import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.files import atomic_path, make_folder, read_json, write_json, write_text
from pursuhint.hints import HintPlan
from pursuhint.models.checkpoint import count_parameters, save_weights
from pursuhint.training.devices import build_accelerator, choose_device, keep_random_state
from pursuhint.training.environment import describe_environment
from pursuhint.training.evaluation import evaluate
from pursuhint.training.events import EpochFinished, Event, HintsChosen, Resumed, RunStarted
from pursuhint.training.identity import (
    check_same_run,
    fingerprint_data,
    fingerprint_file,
    fingerprint_network,
)
from pursuhint.training.loop import fit
from pursuhint.training.prepare import (
    Parts,
    build_distiller,
    evaluation_loaders,
    pair_with_student,
    prepare,
    training_loader,
)
from pursuhint.training.recipe import Recipe
from pursuhint.training.record import RunRecord, best_epoch
from pursuhint.training.resolve import resolve_recipe
from pursuhint.training.stages import plan_stages
from pursuhint.training.state import SavedState, StateStore, lock_folder

__all__ = ["train"]


def train(
    recipe: Recipe,
    out: Path | str,
    *,
    device: torch.device | str | None = None,
    on_event: Callable[[Event], None] | None = None,
    teacher: nn.Module | None = None,
    plan: HintPlan | None = None,
    data: ImageData | None = None,
    student: nn.Module | None = None,
) -> RunRecord:
    """Train a student, alone or with a teacher, and leave a run folder behind.

    Everything that can be wrong is looked for before anything is written. The same call on the folder of an
    interrupted run goes on after its last whole epoch, and gives what the uninterrupted run would have given
    (bit for bit on the CPU with the same number of threads, wall times aside); on the folder of a finished
    run it returns the record. The best epoch is the first with the highest top-1 accuracy on the validation
    split, or on the test split where there is none; ``result.json`` says which.

    Args:
        recipe: what to do.
        out: the run folder. It must not hold a different run.
        device: where to train; None for the best there is. Under ``accelerate launch`` each process has its
            own of that type.
        on_event: called with what happens; see `pursuhint.training.events`.
        teacher: a trained network to use instead of the recipe's. It is copied.
        plan: hint points to use instead of the recipe's.
        data: data to use instead of the recipe's.
        student: a network to use instead of the recipe's, with its weights as the initial ones. It is copied;
            the trained weights are in the run folder.

    Returns:
        The record of the finished run.

    Raises:
        PursuhintError: something is wrong with the recipe or with what it names; the folder holds a different
            run, cannot be written or is being written by another process; a loss was not finite. What was
            saved before stays.

    Example:
        >>> record = train(Recipe.load("digits-vanilla"), "runs/digits")
        >>> record.best["test_top1"]
    """
    folder = Path(out)
    tell = on_event if on_event is not None else _ignore
    device = choose_device(device)
    resolved = resolve_recipe(recipe, student=student, teacher=teacher, data=data, plan=plan)
    inputs = _fingerprints(resolved, student, teacher, data)
    if check_same_run(folder, resolved, inputs) and (folder / "result.json").exists():
        return RunRecord.load(folder, is_main_process=os.environ.get("RANK", "0") == "0")
    with keep_random_state(device), contextlib.ExitStack() as stack:
        accelerator = build_accelerator(device, resolved.precision)
        if plan is None and recipe.hints is not None and recipe.hints.file is not None:
            plan = HintPlan.load(recipe.hints.file)
        parts = prepare(resolved, student=student, teacher=teacher, data=data, plan=plan)
        if parts.plan is not None or resolved.hints is None:
            distiller = build_distiller(resolved, parts, parts.plan)
        make_folder(folder)
        if accelerator.is_main_process:
            stack.enter_context(lock_folder(folder))
            check_same_run(folder, resolved, inputs)  # again: nobody else can write from here on
            _describe(folder, resolved, parts, inputs, accelerator)
        if resolved.hints is not None:
            chosen = _final_plan(folder, resolved, parts, accelerator)
            tell(HintsChosen(tuple(f"{pair.teacher} -> {pair.student}" for pair in chosen.pairs)))
            if parts.plan is None:
                distiller = build_distiller(resolved, parts, chosen)
        run = _Run(folder, resolved, parts.data, distiller, accelerator, tell)
        run.train()
    return RunRecord.load(folder, is_main_process=accelerator.is_main_process)


@dataclass
class _Run:
    """A run that is under way: what happens around the loop."""

    folder: Path
    recipe: Recipe
    data: ImageData
    distiller: Distiller
    accelerator: Accelerator
    tell: Callable[[Event], None]
    metrics: list[dict[str, Any]] = field(default_factory=list)
    state: Path | None = None  # folder of the state saved last

    def __post_init__(self) -> None:
        accelerator = self.accelerator
        shard = (accelerator.process_index, accelerator.num_processes)
        self.store = StateStore(
            self.folder / "state", is_main=accelerator.is_main_process, wait=accelerator.wait_for_everyone
        )
        self.loader = training_loader(self.recipe, self.data, accelerator.device, shard)
        self.tests: Mapping[str, Loader] = evaluation_loaders(
            self.recipe, self.data, accelerator.device, shard
        )
        self.chosen_on = "val" if "val" in self.tests else "test"

    def train(self) -> None:
        stages = plan_stages(self.recipe, self.distiller)
        epochs = sum(stage.epochs for stage in stages)
        trainable = sum(p.numel() for p in self.distiller.student.parameters() if p.requires_grad)
        self.tell(RunStarted(epochs, trainable, self.chosen_on, str(self.accelerator.device)))
        saved = self.store.load()
        if saved is not None:
            self._resume(saved)
        epochs_done = len(self.metrics)
        fit(
            self.accelerator,
            self.distiller,
            stages,
            self.loader,
            seed=self.recipe.seed,
            after_epoch=self._finish_epoch,
            epochs_done=epochs_done,
            restore=self._load_state,
            on_event=self.tell,
        )
        if self.accelerator.is_main_process:
            if epochs_done == epochs:
                self._write_weights(is_best=True)  # the run was interrupted just before it would have done so
            best = self.metrics[best_epoch(self.metrics, self.chosen_on) - 1]
            result = {
                "epochs": epochs,
                "last": self.metrics[-1],
                "best": {**best, "chosen_on": self.chosen_on},
            }
            write_json(self.folder / "result.json", result)
        self.accelerator.wait_for_everyone()

    def _resume(self, saved: SavedState) -> None:
        """Bring the folder to where the state was saved; the loop loads the state itself."""
        self.state, self.metrics = saved.folder, list(saved.progress["metrics"])
        if self.accelerator.is_main_process:
            write_text(self.folder / "metrics.jsonl", "".join(map(_line, self.metrics)))
            self._copy_best()
        self.tell(Resumed(len(self.metrics), saved.notice))

    def _load_state(self) -> None:
        assert self.state is not None
        try:
            self.accelerator.load_state(str(self.state), load_kwargs={"weights_only": True})
        except Exception as error:
            if isinstance(error, MemoryError | torch.OutOfMemoryError):
                raise
            raise PursuhintError(
                f"the state in {self.state} cannot be loaded ({' '.join(str(error).split())[:200]}); "
                f"remove {self.store.folder} to train from the start"
            ) from error

    def _finish_epoch(self, metrics: dict[str, Any]) -> None:
        """Evaluate, save, and only then say that the epoch is done."""
        student = self.distiller.export()
        for split, loader in self.tests.items():
            result = evaluate(student, loader, reduce=lambda sums: self.accelerator.reduce(sums, "sum"))
            if not math.isfinite(result.loss):
                raise PursuhintError(
                    f"the student's {split} loss is not finite after epoch {metrics['epoch']}; "
                    "lower optimizer.lr; what was saved before this epoch is kept"
                )
            metrics |= {
                f"{split}_loss": result.loss,
                f"{split}_top1": result.top1,
                f"{split}_top5": result.top5,
            }
        timings = {key: metrics.pop(key) for key in ("lr", "seconds", "samples_per_second")}
        self.metrics.append(metrics | timings)
        is_best = best_epoch(self.metrics, self.chosen_on) == len(self.metrics)
        previous = self.state

        def write(folder: Path) -> None:
            self.accelerator.save_state(str(folder), safe_serialization=True)
            if self.accelerator.is_main_process:
                best = folder / "best.safetensors"
                if is_best or previous is None:
                    save_weights(student, best)
                else:
                    shutil.copyfile(previous / "best.safetensors", best)

        self.state = self.store.save({"epoch": len(self.metrics), "metrics": self.metrics}, write)
        if self.accelerator.is_main_process:
            _append(self.folder / "metrics.jsonl", _line(self.metrics[-1]))
            self._write_weights(is_best=is_best)
        self.tell(EpochFinished(self.metrics[-1], is_best))

    def _write_weights(self, *, is_best: bool) -> None:
        save_weights(self.distiller.export(), self.folder / "student.safetensors")
        if is_best:
            self._copy_best()

    def _copy_best(self) -> None:
        assert self.state is not None
        with atomic_path(self.folder / "best.safetensors") as temporary:
            shutil.copyfile(self.state / "best.safetensors", temporary)


def _final_plan(folder: Path, recipe: Recipe, parts: Parts, accelerator: Accelerator) -> HintPlan:
    """The plan that the run uses, written to ``hints.json``; chosen by an analysis if the recipe says so."""
    path = folder / "hints.json"
    if parts.plan is not None:
        if accelerator.is_main_process:
            parts.plan.save(path)
        return parts.plan
    hints, teacher = recipe.hints, parts.teacher
    assert hints is not None
    assert teacher is not None
    if accelerator.is_main_process and not path.exists():
        if (folder / "analysis" / "analysis.json").exists():
            analysis = Analysis.load(folder / "analysis")
        else:
            analysis = analyze(
                teacher,
                parts.data,
                metrics=(hints.metric,),
                k=hints.k,
                samples=hints.samples,
                seed=hints.seed,
                activation=hints.activation,
                position=hints.position,
                algorithm=hints.algorithm,
                device=accelerator.device,
                network_name=recipe.teacher.network if recipe.teacher is not None else None,
            )
            analysis.save(folder / "analysis")
            teacher.to("cpu")
        pair_with_student(analysis.plan, hints, parts.student, parts.example).save(path)
    accelerator.wait_for_everyone()
    return HintPlan.load(path).bind(teacher, parts.example, student_network=parts.student)


def _fingerprints(
    recipe: Recipe, student: nn.Module | None, teacher: nn.Module | None, data: ImageData | None
) -> dict[str, str]:
    """What the run depends on besides the recipe."""
    found = {
        "data": fingerprint_data(data) if data is not None else None,
        "student": fingerprint_network(student) if student is not None else _checkpoint(recipe.student),
        "teacher": fingerprint_network(teacher) if teacher is not None else _checkpoint(recipe.teacher),
    }
    return {name: value for name, value in found.items() if value is not None}


def _checkpoint(network: Any) -> str | None:
    return None if network is None or network.checkpoint is None else fingerprint_file(network.checkpoint)


def _describe(
    folder: Path, recipe: Recipe, parts: Parts, inputs: Mapping[str, str], accelerator: Accelerator
) -> None:
    """Write recipe.yaml and environment.json; a resumed run adds when and where it went on."""
    path = folder / "environment.json"
    now = describe_environment(accelerator.device, seed=recipe.seed, processes=accelerator.num_processes)
    if (folder / "recipe.yaml").exists() and path.exists():
        before = read_json(path, "description of the run")
        write_json(path, {**before, "resumed": [*before.get("resumed", []), now]})
        return
    data = parts.data
    sizes = {
        "name": data.name,
        "num_classes": data.num_classes,
        "in_channels": data.in_channels,
        "image_size": list(data.image_size),
        "samples": {name: len(split) for name, split in data.splits.items()},
    }
    parameters = {"student": count_parameters(parts.student)}
    if parts.teacher is not None:
        parameters["teacher"] = count_parameters(parts.teacher)
    write_json(path, {**now, "data": sizes, "parameters": parameters, "inputs": dict(inputs), "resumed": []})
    recipe.save(folder / "recipe.yaml")


def _line(metrics: Mapping[str, Any]) -> str:
    return json.dumps(metrics, allow_nan=False) + "\n"


def _append(path: Path, text: str) -> None:
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise PursuhintError(f"cannot write {path}: {error.strerror or error}") from error


def _ignore(event: Event) -> None:
    """Nobody is watching."""
