"""Runs the training loop with evaluation, checkpointing, graceful stop and resume."""

from __future__ import annotations

import contextlib
import json
import math
import shutil
import signal
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import nn

from pursuhint._util.atomic_files import (
    append_text,
    atomic_path,
    read_json,
    write_json,
    write_point,
    write_text,
)
from pursuhint._util.two_slots import SavedState
from pursuhint.acceleration.channels_last import channels_last_weights
from pursuhint.data import Batch, ImageData, InputData, Loader
from pursuhint.distillation.distiller import Distiller
from pursuhint.distillation.teacher_fsdp import shard_teacher
from pursuhint.errors import PursuhintError
from pursuhint.models.checkpoint import save_weights
from pursuhint.models.evaluation import Evaluation, evaluate
from pursuhint.training.events import (
    EpochFinished,
    Event,
    LossDominated,
    Resumed,
    RunStarted,
    TeacherReplayed,
)
from pursuhint.training.kept_student import StudentKeeper, kept_students
from pursuhint.training.loaders import evaluation_loaders, training_loader, unchanging_loader
from pursuhint.training.loop import EpochProgress, LoopHooks, Position, TrainingLoop
from pursuhint.training.loss_shares import dominant_of_run
from pursuhint.training.normalization import images_line
from pursuhint.training.own_parts import NO_PARTS, OwnParts
from pursuhint.training.recipe.schema import Recipe
from pursuhint.training.resources import Resources, TeacherPass
from pursuhint.training.run_folder.checkpoints import StateStore
from pursuhint.training.run_folder.file_metadata import weights_metadata
from pursuhint.training.run_folder.image_hits import save_hits
from pursuhint.training.run_folder.record import best_epoch, student_after
from pursuhint.training.run_folder.trackers import Trackers
from pursuhint.training.signals import RunStopped, StopRequest, synced_stop_signal
from pursuhint.training.stages import Stage, plan_stages
from pursuhint.training.sync_batchnorm import synchronize_batchnorms
from pursuhint.training.teacher_recording import RecordingUse, TeacherRecording, values_per_sample

# The type to which autocast casts the weights of convolutions and linear layers in every batch.
_WEIGHTS: Mapping[str, torch.dtype | None] = MappingProxyType(
    {"float32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
)


_SCHEDULER = "scheduler.pt"
"""File of a state with the state of the user's scheduler."""


@dataclass
class Trainer:
    """Trains, evaluates and saves a run whose parts have been built and checked.

    Args:
        folder: the run folder, locked by this process or by the main one of several.
        recipe: resolved.
        data: for training and evaluation.
        distiller: the networks and losses to train.
        accelerator: owns device, precision, processes and state.
        tell: receives events.
        resources: creates batches and teacher features, perhaps shared with other runs.
        stop: a request to save and stop; None for never.
        recording: of the teacher; None without.
        own: optimizer, scheduler and callbacks of the user.
    """

    folder: Path
    recipe: Recipe
    data: ImageData | InputData
    distiller: Distiller
    accelerator: Accelerator
    tell: Callable[[Event], None]
    resources: Resources
    stop: StopRequest | None = None
    recording: TeacherRecording | None = None
    own: OwnParts = NO_PARTS
    metrics: list[dict[str, Any]] = field(default_factory=list)
    state: Path | None = None  # folder of the last saved state
    loop: TrainingLoop | None = None

    def __post_init__(self) -> None:
        accelerator = self.accelerator
        shard = (accelerator.process_index, accelerator.num_processes)
        self.store = StateStore(
            self.folder / "state", is_main=accelerator.is_main_process, wait=accelerator.wait_for_everyone
        )
        self.loader = self.resources.loader(
            self.recipe, lambda: training_loader(self.recipe, self.data, accelerator.device, shard)
        )
        self.tests: Mapping[str, Loader] = evaluation_loaders(
            self.recipe, self.data, accelerator.device, shard
        )
        if self.recipe.sync_batchnorm and accelerator.num_processes > 1:
            synchronize_batchnorms(self.distiller, accelerator.device)
        self.chosen_on = "val" if "val" in self.tests else "test"
        if self.own.callbacks:
            self.tell = _told_to(self.tell, self.own.callbacks, self.distiller)
        self.must_stop = synced_stop_signal(self.stop if self.stop is not None else StopRequest())

    def steps(self) -> Generator[Position, None, None]:
        """Train from the beginning, or from the last saved state, to the end.

        Raises:
            PursuhintError: a loss was not finite, or something could not be written or read.
            RunStopped: the run was asked to stop, and has been saved.
        """
        self._lay_out_weights()
        stages = plan_stages(self.recipe, self.distiller, self.own)
        epochs = sum(stage.epochs for stage in stages)
        trainable = sum(p.numel() for p in self.distiller.student.parameters() if p.requires_grad)
        device = self.accelerator.device  # launchers number CPU devices too
        where = device.type if device.type == "cpu" else str(device)
        images = images_line(self.data, self.recipe.data, self.distiller.teacher)
        self.tell(RunStarted(epochs, trainable, self.chosen_on, where, images))
        if self.recording is not None:
            self.tell(TeacherReplayed(self._use_of(self.recording, epochs)))
        saved = self.store.load()
        steps_done = self._resume(saved) if saved is not None else 0
        epochs_done = len(self.metrics)
        self.epochs = epochs
        self._kept_after = _ends_of_warm_ups(stages)
        self._keeper = self._student_keeper(stages)
        watching = self.recipe.trackers if self.accelerator.is_main_process and epochs_done < epochs else ()
        self.trackers = Trackers(watching, self.folder, self.recipe, epochs_done)
        with contextlib.closing(self.trackers):
            loop = TrainingLoop(
                self.accelerator, self.distiller, self.loader, seed=self.recipe.seed, hooks=self._hooks()
            )
            self.loop = loop
            yield from loop.steps(stages, epochs_done=epochs_done, steps_done=steps_done)
        if self.accelerator.is_main_process:
            if epochs_done == epochs:
                self._write_weights(is_best=True)  # the run was interrupted just before this step
            best = self.metrics[best_epoch(self.metrics, self.chosen_on) - 1]
            result = {
                "epochs": epochs,
                "last": self.metrics[-1],
                "best": {**best, "chosen_on": self.chosen_on},
            }
            write_json(self.folder / "result.json", result)
        self.accelerator.wait_for_everyone()

    def _hooks(self) -> LoopHooks:
        return LoopHooks(
            after_epoch=self._finish_epoch,
            after_step=self._after_step,
            restore=self._load_state,
            begin_stage=self._begin_stage,
            on_event=self.tell,
            teacher_features=self.resources.teacher_features(self._teacher_pass()),
            clock=self.resources.clock,
        )

    def _teacher_pass(self) -> TeacherPass:
        return TeacherPass(self.distiller, self.accelerator, self.recording, self.loader)

    def _use_of(self, recording: TeacherRecording, epochs: int) -> RecordingUse:
        outputs, teacher = self.distiller.teacher_outputs, self.distiller.teacher
        assert teacher is not None
        sizes = {} if outputs is None else values_per_sample(teacher, outputs, self.data)
        return recording.use(epochs, self.loader.num_samples, outputs, sizes)

    def _lay_out_weights(self) -> None:
        """Set the memory layout of the student and shard the teacher, before device transfer and DDP."""
        teacher, acceleration = self.distiller.teacher, self.recipe.acceleration
        if acceleration.channels_last and self.accelerator.device.type == "cuda":
            channels_last_weights(self.distiller.student)
        if not acceleration.shard_teacher or teacher is None:
            return
        precision = (
            self.recipe.precision
            if acceleration.teacher_precision == "same"
            else acceleration.teacher_precision
        )
        example = self.data.example(1)
        shard_teacher(teacher, example, self.accelerator.device, _WEIGHTS[precision])

    def _begin_stage(self) -> None:
        """Cache the teacher's outputs if asked for; the distiller is on its device and set to the stage."""
        distiller, device = self.distiller, self.accelerator.device
        if distiller.acceleration.cache_teacher and distiller.teacher is not None:

            def batches() -> Iterator[Batch]:
                return unchanging_loader(self.recipe, self.data, device).epoch()

            with self.accelerator.autocast():
                self.resources.cache_teacher(distiller, batches)

    # -- resuming ------------------------------------------------------------------------------------------

    def _resume(self, saved: SavedState) -> int:
        """Reset the folder's files to the saved state; the loop loads the state itself.

        Returns:
            Steps done of the unfinished epoch.
        """
        processes = saved.progress.get("processes", 1)
        if processes != self.accelerator.num_processes:
            raise PursuhintError(
                f"the state in {saved.folder} is of {processes} processes, and here are "
                f"{self.accelerator.num_processes}; resume with as many, or remove {self.store.folder} "
                "to train from the start"
            )
        self.state, self.metrics = saved.folder, list(saved.progress["metrics"])
        if self.accelerator.is_main_process:
            write_text(self.folder / "metrics.jsonl", "".join(map(_line, self.metrics)))
            if self.metrics:
                self._copy_best()
        steps: int = saved.progress.get("step", 0)
        self.tell(Resumed(len(self.metrics), saved.notice, steps))
        return steps

    def _load_state(self, progress: EpochProgress | None) -> None:
        assert self.state is not None
        try:
            self.accelerator.load_state(str(self.state), load_kwargs={"weights_only": True})
            if self.loop is not None and self.loop.scheduler is not None:
                self.loop.scheduler.load_state_dict(torch.load(self.state / _SCHEDULER, weights_only=True))
        except Exception as error:
            if isinstance(error, MemoryError | torch.OutOfMemoryError):
                raise
            raise PursuhintError(
                f"the state in {self.state} cannot be loaded ({' '.join(str(error).split())[:200]}); "
                f"remove {self.store.folder} to train from the start"
            ) from error
        if progress is not None:
            saved = read_json(self.state / self._progress_file, "state of the unfinished epoch")
            progress.step, progress.seconds = saved["step"], saved["seconds"]
            progress.sums.restore(saved["sums"], self.accelerator.device)

    @property
    def _progress_file(self) -> str:
        """File of a state with this rank's progress in the unfinished epoch."""
        return f"epoch-{self.accelerator.process_index}.json"

    # -- saving --------------------------------------------------------------------------------------------

    def _after_step(self, progress: EpochProgress) -> None:
        """Within an epoch: save every ``save_every_steps`` steps, and save and stop if a signal asked to."""
        every = self.recipe.save_every_steps
        asked = self.must_stop(progress.step)
        if asked or (every and progress.step % every == 0):
            progress.check()
            self._save(progress)
        if asked:
            where = f"after step {progress.step} of {progress.steps} of epoch {progress.epoch}"
            raise self._stopped(asked, where)

    def _finish_epoch(self, metrics: dict[str, Any]) -> None:
        """Evaluate and save, and only then report the epoch as finished."""
        self._same_statistics()
        metrics |= self._keeper.finish_epoch(self.metrics, self.state)
        student = self.distiller.export()
        for split, loader in self.tests.items():
            result = evaluate(student, loader, reduce=lambda sums: self.accelerator.reduce(sums, "sum"))
            if not math.isfinite(result.loss):
                raise PursuhintError(
                    f"the student's {split} loss is not finite after epoch {metrics['epoch']}; "
                    "lower optimizer.lr; what was saved before this epoch is kept"
                )
            if split == "test" and len(self.metrics) + 1 == self.epochs:
                self._keep_hits(result)
            metrics |= {
                f"{split}_loss": result.loss,
                f"{split}_top1": result.top1,
                f"{split}_top5": result.top5,
            }
        for name, network in self.distiller.other_heads().items():
            for split, loader in self.tests.items():
                result = evaluate(network, loader, reduce=lambda sums: self.accelerator.reduce(sums, "sum"))
                metrics |= {f"{split}_{name}_top1": result.top1}
        timings = {key: metrics.pop(key) for key in ("lr", "seconds", "samples_per_second")}
        self.metrics.append(metrics | timings)
        is_best = best_epoch(self.metrics, self.chosen_on) == len(self.metrics)
        if (stage := self._kept_after.get(len(self.metrics))) and self.accelerator.is_main_process:
            # Before the state: a run that is stopped in between repeats this epoch and writes it again.
            save_weights(student, self.folder / student_after(stage), metadata=self._texts(f"last {stage}"))
        self._save(best=student if is_best else None)
        if self.accelerator.is_main_process:
            append_text(self.folder / "metrics.jsonl", _line(self.metrics[-1]))
            self._write_weights(is_best=is_best)
        self.trackers.log(self.metrics[-1])
        self.tell(EpochFinished(self.metrics[-1], is_best))
        if sum(line["stage"] == "main" for line in self.metrics) == 1:
            dominant = dominant_of_run(self.metrics, self.distiller.weights)
            if dominant is not None:
                self.tell(LossDominated(dominant))
        asked = self.must_stop(0)
        if asked and len(self.metrics) < self.epochs:
            raise self._stopped(asked, f"after epoch {len(self.metrics)} of {self.epochs}")

    def _student_keeper(self, stages: Sequence[Stage]) -> StudentKeeper:
        """Keeps the best student of a warm-up that asks for it."""
        recipe, data, accelerator = self.recipe, self.data, self.accelerator
        shard = (accelerator.process_index, accelerator.num_processes)
        return StudentKeeper(
            kept_students(stages, validation="val" in self.tests),
            self.distiller,
            accelerator,
            lambda: unchanging_loader(recipe, data, accelerator.device, shard),
            self.tests,
            data.num_classes,
        )

    def _keep_hits(self, result: Evaluation) -> None:
        """Write which test images are classified correctly after the last epoch. Collective call."""
        if result.indices is None or result.hits is None:
            return
        order, places = self.data.split("test").indices.sort()
        here = torch.zeros(len(order), dtype=torch.int32)
        here[places[torch.searchsorted(order, result.indices)]] = result.hits.to(here.dtype)
        joint = self.accelerator.reduce(here.to(self.accelerator.device), "sum")
        if self.accelerator.is_main_process:
            save_hits(self.folder, joint.cpu().numpy() > 0, epoch=self.epochs)

    def _save(self, progress: EpochProgress | None = None, best: nn.Module | None = None) -> None:
        """Save the state, with the best weights so far: ``best``, or the copy in the previous state."""
        previous = self.state
        description: dict[str, Any] = {
            "epoch": len(self.metrics),
            "step": 0 if progress is None else progress.step,
            "processes": self.accelerator.num_processes,
            "metrics": self.metrics,
        }

        def write(folder: Path) -> None:
            write_point(folder)
            self.accelerator.save_state(str(folder), safe_serialization=True)
            if progress is not None:
                sums = progress.sums.state()
                content = {"step": progress.step, "seconds": progress.seconds, "sums": sums}
                write_json(folder / self._progress_file, content)
            if self.loop is not None and self.loop.scheduler is not None:
                torch.save(self.loop.scheduler.state_dict(), folder / _SCHEDULER)
            if self.accelerator.is_main_process:
                self._keeper.save(folder, self.metrics, previous, in_epoch=progress is not None)
                path = folder / "best.safetensors"
                if best is not None:
                    save_weights(best, path, metadata=self._texts("best"))
                elif self.metrics and previous is not None:
                    shutil.copyfile(previous / "best.safetensors", path)

        self.state = self.store.save(description, write)

    def _same_statistics(self) -> None:
        """Broadcast rank 0's batch-norm statistics, because its student is the one that is saved."""
        if self.accelerator.num_processes > 1:
            for buffer in self.distiller.student.buffers():
                buffer.copy_(broadcast(buffer))

    def _stopped(self, number: int, where: str) -> RunStopped:
        name = signal.Signals(number).name
        return RunStopped(
            number,
            f"stopped by {name} {where}; everything is saved in {self.folder}, and the same command resumes "
            "the run",
        )

    def _write_weights(self, *, is_best: bool) -> None:
        path = self.folder / "student.safetensors"
        save_weights(self.distiller.export(), path, metadata=self._texts("last"))
        if is_best:
            self._copy_best()

    def _texts(self, weights: str) -> dict[str, str]:
        """Images, classes and origin, in the header of a file of weights."""
        return weights_metadata(self.recipe.student.network, self.data, weights)

    def _copy_best(self) -> None:
        assert self.state is not None
        with atomic_path(self.folder / "best.safetensors") as temporary:
            shutil.copyfile(self.state / "best.safetensors", temporary)


def _told_to(
    tell: Callable[[Event], None],
    callbacks: Sequence[Callable[[Event, Distiller], object]],
    distiller: Distiller,
) -> Callable[[Event], None]:
    """A handler of events that passes them, and the distiller, to callbacks too."""

    def handle(event: Event) -> None:
        tell(event)
        for callback in callbacks:
            callback(event, distiller)

    return handle


def _ends_of_warm_ups(stages: Sequence[Stage]) -> dict[int, str]:
    """The stages before the main one that train the student, by the number of their last epoch."""
    ends, epoch = {}, 0
    for stage in stages:
        epoch += stage.epochs
        if stage.warm_up is not None and stage.warm_up.trains_student:
            ends[epoch] = stage.warm_up.name
    return ends


def _line(metrics: Mapping[str, Any]) -> str:
    return json.dumps(metrics, allow_nan=False) + "\n"
