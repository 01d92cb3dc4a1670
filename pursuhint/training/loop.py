"""The training loop: batch in, losses out, backward, step. It knows no method by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from torch.optim.lr_scheduler import LRScheduler

from pursuhint._util.seeds import derived_seed
from pursuhint.data import Batch, Loader
from pursuhint.distillation.distiller import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import Features
from pursuhint.training.devices import expect_idle_parameters
from pursuhint.training.dot import backward
from pursuhint.training.epoch_metrics import CHECK_EVERY, MetricSums
from pursuhint.training.events import EpochStarted, Event, LossesSoFar, StepDone, ignore
from pursuhint.training.stages import Stage, check_that_all_learn

T = TypeVar("T")


@dataclass(frozen=True, order=True)
class Position:
    """The next step of a run: ``step`` of ``epoch``, both counted from 1 and epochs over all stages."""

    epoch: int
    step: int


READY = Position(0, 0)
"""The position before the first step, with everything checked and built."""


@dataclass
class EpochProgress:
    """The unfinished part of a saved state: together with weights and random states it resumes an epoch.

    Attributes:
        epoch: its number, from 1 over all stages.
        steps: of the whole epoch.
        step: steps done.
        seconds: of training that these took.
        sums: losses and hits of these steps.
        advice: what may help if a loss is not finite; see `Stage.advice`.
    """

    epoch: int
    steps: int
    step: int = 0
    seconds: float = 0.0
    sums: MetricSums = field(default_factory=MetricSums)
    advice: str = "lower optimizer.lr or the weight of the term"

    def check(self) -> None:
        """Check that all losses of the epoch so far were finite; forces a GPU sync.

        Raises:
            PursuhintError: one was not.
        """
        if problem := self.sums.problem():
            before = f"what was saved after epoch {self.epoch - 1} is kept"
            kept = before if self.epoch > 1 else "no epoch was finished"
            raise PursuhintError(
                f"{problem[0]} is not finite at epoch {self.epoch}, step {problem[1]} of {self.steps}; "
                f"{self.advice}; {kept}"
            )


@dataclass(frozen=True)
class LoopHooks:
    """What the loop calls: evaluation, saving, events and the inputs that runs may share.

    Attributes:
        after_epoch: receives the metrics of every epoch once its losses are known to be finite; evaluates
            and saves.
        after_step: called after every step but an epoch's last; may save.
        restore: loads the state saved last into everything that the accelerator has prepared. In the middle
            of an epoch it receives the epoch's progress and fills it, else None.
        begin_stage: called once a stage is prepared, before its first step.
        on_event: receives epochs and steps.
        teacher_features: the teacher's features of the batch at a position if another run has computed or
            recorded them, else None; see `pursuhint.distillation.Distiller.forward`.
        clock: seconds since some moment; stands still while the run waits for others.
    """

    after_epoch: Callable[[dict[str, Any]], None]
    after_step: Callable[[EpochProgress], None] = lambda progress: None
    restore: Callable[[EpochProgress | None], None] = lambda progress: None
    begin_stage: Callable[[], None] = lambda: None
    on_event: Callable[[Event], None] = ignore
    teacher_features: Callable[[Batch, Position], Features | None] = lambda batch, position: None
    clock: Callable[[], float] = time.perf_counter


def last(steps: Generator[Position, None, T]) -> T:
    """Exhaust a generator of steps and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return cast(T, stop.value)


class TrainingLoop:
    """Trains the stages of a run one after the other.

    All randomness derives from (seed, epoch), so a resumed run equals an uninterrupted one: bit for bit on
    the CPU with the same number of threads.

    Args:
        accelerator: owns device, precision, processes and the state to save.
        distiller: the networks and losses to train.
        loader: of the training split, this process's shard.
        seed: of the run.
        hooks: evaluation, saving and events.
    """

    def __init__(
        self, accelerator: Accelerator, distiller: Distiller, loader: Loader, *, seed: int, hooks: LoopHooks
    ) -> None:
        self.accelerator = accelerator
        self.distiller = distiller
        self.loader = loader
        self.seed = seed
        self.hooks = hooks
        self.model: Any = None  # distiller and optimizer as the accelerator has prepared them
        self.optimizer: Any = None
        self.scheduler: LRScheduler | None = None  # the user's, in the main stage

    def steps(
        self, stages: Sequence[Stage], *, epochs_done: int = 0, steps_done: int = 0
    ) -> Generator[Position, None, None]:
        """Train step by step.

        Args:
            stages: at least one.
            epochs_done: epochs of the saved state, over all stages; above 0 the state is restored.
            steps_done: steps of the saved state in the epoch after these.

        Yields:
            The position of every step, before its batch is requested, so that several runs can be
            interleaved and share their batches.

        Raises:
            PursuhintError: a loss was not finite; checked every `CHECK_EVERY` steps and after each epoch.
        """
        total = sum(stage.epochs for stage in stages)
        first = 1  # epoch of this stage
        for stage in stages:
            remaining = range(max(first, epochs_done + 1), first + stage.epochs)
            if remaining:
                self._begin(stage, resumed_before=remaining[0] == first > 1, in_epoch=bool(steps_done))
                if remaining[0] > first and not steps_done:
                    self.hooks.restore(None)
                self.hooks.begin_stage()
            for epoch in remaining:
                progress = EpochProgress(epoch, len(self.loader), advice=stage.advice())
                self.hooks.on_event(EpochStarted(epoch, total, stage.name, progress.steps))
                torch.manual_seed(derived_seed(self.seed, "epoch", epoch, self.accelerator.process_index))
                self.distiller.train()
                if stage.warm_up is None:
                    self.distiller.begin_epoch(epoch - first, stage.epochs)
                if steps_done:
                    self.hooks.restore(progress)  # after everything that the beginning of an epoch changes
                    self.distiller.resume_epoch()
                    steps_done = 0
                metrics = yield from self._epoch(
                    stage, progress, steps_before=(epoch - first) * progress.steps
                )
                if self.scheduler is not None:
                    self.scheduler.step()
                self.hooks.after_epoch({"epoch": epoch, "stage": stage.name, **metrics})
            first += stage.epochs
        if self.model is None:  # nothing was left to train
            self.accelerator.prepare(self.distiller)
            self.hooks.restore(None)

    def _begin(self, stage: Stage, *, resumed_before: bool, in_epoch: bool) -> None:
        """Prepare a stage: it starts with a new optimizer over the parameters that it trains.

        Args:
            stage: the stage.
            resumed_before: no stage has been prepared, and the saved state ends where this one begins.
            in_epoch: the saved state is in the middle of an epoch.
        """
        accelerator = self.accelerator
        if self.model is not None:
            self.model = self.optimizer = None  # two wrappers around one module would both average gradients
            accelerator.free_memory()  # it would save and load the optimizer of the stage before as well
        elif resumed_before and not in_epoch:
            accelerator.prepare(self.distiller)
            self.hooks.restore(None)  # weights only, because this stage has a new optimizer
            accelerator.free_memory()
        parameters = stage.begin_stage(self.distiller)
        expect_idle_parameters(accelerator, stage.leaves_parameters_idle(self.distiller))
        optimizer = stage.new_optimizer(parameters, late=self.distiller.changes_hints)
        self.scheduler = stage.new_scheduler(optimizer)
        if self.scheduler is not None:
            accelerator.register_for_checkpointing(self.scheduler)
        self.model, self.optimizer = accelerator.prepare(self.distiller, optimizer)

    def _epoch(
        self, stage: Stage, progress: EpochProgress, *, steps_before: int
    ) -> Generator[Position, None, dict[str, Any]]:
        """One pass over the loader, or over the rest of it.

        Args:
            stage: gives the learning rate of every step.
            progress: of this epoch.
            steps_before: steps of the stage before this epoch.

        Returns:
            Means over the epoch's samples (``train_loss``, one ``train_<term>`` for every term, unweighted,
            and ``train_top1`` in percent), the last ``lr``, ``seconds`` of training and
            ``samples_per_second``.
        """
        accelerator, distiller, hooks = self.accelerator, self.distiller, self.hooks
        started = hooks.clock() - progress.seconds
        steps, sums, rate = progress.steps, progress.sums, 0.0
        joint = (self.loader.joint_size(step) for step in range(progress.step))
        samples = sum(joint) // accelerator.num_processes
        batches = self.loader.epoch(progress.epoch - 1, progress.step)
        for step in range(progress.step + 1, steps + 1):
            yield Position(progress.epoch, step)
            batch = next(batches)
            rate = stage.set_learning_rate(
                self.optimizer.param_groups,
                steps_before + step - 1,
                steps,
                restarted=distiller.restarted,
            )
            losses = self.model(batch, hooks.teacher_features(batch, Position(progress.epoch, step)))
            # DDP averages gradients over ranks as if shards were equal; scale each by its share of the batch.
            share = accelerator.num_processes * len(batch) / self.loader.joint_size(step - 1)
            backward(accelerator, losses, self.optimizer, share=share)
            if step == 1 and accelerator.num_processes > 1 and not stage.leaves_parameters_idle(distiller):
                check_that_all_learn(distiller)
            self.optimizer.step()
            self.model.zero_grad(set_to_none=True)
            sums.add(step, losses, batch.labels)
            samples += len(batch)
            hooks.on_event(StepDone(step, steps, samples))
            if step % CHECK_EVERY == 0 or step == steps:
                progress.check()
                hooks.on_event(LossesSoFar(sums.so_far()))
            if step < steps:
                progress.step, progress.seconds = step, hooks.clock() - started
                hooks.after_step(progress)
        means = sums.means(lambda values: accelerator.reduce(values, reduction="sum"))
        seconds = hooks.clock() - started
        speed = means.pop("samples") / seconds
        return {**means, "lr": rate, "seconds": seconds, "samples_per_second": speed}
