"""The loop: batch in, losses out, backward, step. It knows no method by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
from accelerate import Accelerator
from torch import nn

from pursuhint._util.seeds import derived_seed
from pursuhint.acceleration.malloc import set_up_memory
from pursuhint.data import Batch, Loader
from pursuhint.distillation.distiller import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.features.extractor import Features
from pursuhint.training.devices import expect_idle_parameters
from pursuhint.training.epoch_metrics import CHECK_EVERY, MetricSums
from pursuhint.training.events import EpochStarted, Event, LossesSoFar, StepDone
from pursuhint.training.stages import Stage, build_optimizer, check_that_all_learn

T = TypeVar("T")


@dataclass(frozen=True, order=True)
class Position:
    """Where a run is: before ``step`` of ``epoch``, both counted from 1 and epochs over all stages."""

    epoch: int
    step: int


READY = Position(0, 0)
"""Where a run is before its first step, with everything checked and built."""


@dataclass
class EpochPart:
    """An epoch under way: with the weights and random states, what is needed to go on in the middle of it.

    Attributes:
        epoch: its number, from 1 over all stages.
        steps: how many it has.
        step: how many of them are done.
        seconds: that they took.
        tally: what is known about them.
    """

    epoch: int
    steps: int
    step: int = 0
    seconds: float = 0.0
    tally: MetricSums = field(default_factory=MetricSums)

    def check(self) -> None:
        """Find out whether all losses so far were finite; waits for the device.

        Raises:
            PursuhintError: one was not.
        """
        if problem := self.tally.problem():
            before = f"what was saved after epoch {self.epoch - 1} is kept"
            kept = before if self.epoch > 1 else "no epoch was finished"
            raise PursuhintError(
                f"{problem[0]} is not finite at epoch {self.epoch}, step {problem[1]} of {self.steps}; "
                f"lower optimizer.lr or the weight of the term; {kept}"
            )


def last(steps: Generator[Position, None, T]) -> T:
    """Go through all steps of a run, and give what it returns."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return cast(T, stop.value)


def training_steps(
    accelerator: Accelerator,
    distiller: Distiller,
    stages: Sequence[Stage],
    loader: Loader,
    *,
    seed: int,
    after_epoch: Callable[[dict[str, Any]], None],
    after_step: Callable[[EpochPart], None] = lambda part: None,
    epochs_done: int = 0,
    steps_done: int = 0,
    restore: Callable[[EpochPart | None], None] = lambda part: None,
    on_event: Callable[[Event], None] = lambda event: None,
    trace_of: Callable[[Batch], Features | None] = lambda batch: None,
    clock: Callable[[], float] = time.perf_counter,
    begin_stage: Callable[[], None] = lambda: None,
) -> Generator[Position, None, None]:
    """Train the stages one after the other, step by step.

    What an epoch draws depends on the seed and the epoch's number alone, so a run that goes on after a saved
    epoch or step equals one that was never stopped: bit for bit on the CPU with the same number of threads.

    Args:
        accelerator: owns device, precision, processes and the state to save.
        distiller: what is trained.
        stages: at least one.
        loader: of the training split, this process's part.
        seed: of the run.
        after_epoch: gets the metrics of every epoch, once its losses are known to be finite; evaluates and
            saves.
        after_step: called after every step but an epoch's last; may save.
        epochs_done: epochs, over all stages, that the distiller has behind it already.
        steps_done: the same for steps of the epoch after them.
        restore: loads the state saved last into what the accelerator has prepared; called if either is above
            0. Gets the epoch under way, to fill it, if ``steps_done`` is.
        on_event: hears of epochs and steps.
        trace_of: what the teacher made of a batch, where it has run already; see `Distiller.forward`.
        clock: seconds since some moment; stands still while the run is waiting for others.
        begin_stage: called when a stage has been prepared, before its first step.

    Yields:
        Before every step, and before its batch is asked for, which step that is. So several runs can be led
        side by side and share their batches.

    Raises:
        PursuhintError: a loss was not finite; looked at every `CHECK_EVERY` steps and after each epoch.
    """
    set_up_memory(distiller.acceleration, accelerator.device)
    epochs = sum(stage.epochs for stage in stages)
    first = 1
    model: Any = None  # distiller and optimiser as the accelerator has prepared them
    optimizer: Any = None
    for stage in stages:
        remaining = range(max(first, epochs_done + 1), first + stage.epochs)
        if remaining:
            if model is not None:
                model = optimizer = None  # two wrappers around one module would both average its gradients
                accelerator.free_memory()  # it would save and load the optimiser of the stage before as well
            elif remaining[0] == first > 1 and not steps_done:
                accelerator.prepare(distiller)
                restore(None)  # weights only, as no optimiser has been prepared: this stage has a new one
                accelerator.free_memory()
            parameters = stage.enter(distiller)
            expect_idle_parameters(accelerator, stage.leaves_parameters_idle(distiller))
            model, optimizer = accelerator.prepare(distiller, build_optimizer(stage.optimizer, parameters))
            if remaining[0] > first and not steps_done:
                restore(None)
            begin_stage()
        for epoch in remaining:
            part = EpochPart(epoch, len(loader))
            on_event(EpochStarted(epoch, epochs, stage.name, len(loader)))
            torch.manual_seed(derived_seed(seed, "epoch", epoch, accelerator.process_index))
            distiller.train()
            if stage.warm_up is None:
                distiller.begin_epoch(epoch - first, stage.epochs)
            if steps_done:
                restore(part)  # after everything that the beginning of an epoch changes
                steps_done = 0
            before = (epoch - first) * len(loader)
            metrics = yield from _epoch_steps(
                accelerator,
                distiller,
                model,
                optimizer,
                stage,
                loader,
                part,
                before,
                on_event,
                trace_of,
                clock,
                after_step,
            )
            after_epoch({"epoch": epoch, "stage": stage.name, **metrics})
        first += stage.epochs
    if model is None:
        accelerator.prepare(distiller)
        restore(None)


def _epoch_steps(
    accelerator: Accelerator,
    distiller: Distiller,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    stage: Stage,
    loader: Loader,
    part: EpochPart,
    before: int,
    on_event: Callable[[Event], None],
    trace_of: Callable[[Batch], Features | None],
    clock: Callable[[], float],
    after_step: Callable[[EpochPart], None],
) -> Generator[Position, None, dict[str, Any]]:
    """One pass over the loader, or what is left of it.

    Args:
        accelerator: as in `training_steps`.
        distiller: the same.
        model: the distiller as the accelerator prepared it.
        optimizer: the same for the optimiser.
        stage: says the learning rate of every step.
        loader: as in `training_steps`.
        part: the epoch, and how far it is.
        before: steps of the stage before this epoch.
        on_event: hears of steps.
        trace_of: as in `training_steps`.
        clock: the same.
        after_step: the same.

    Returns:
        Means over the epoch's samples (``train_loss``, one ``train_<term>`` for every term, unweighted, and
        ``train_top1`` in percent), the last ``lr``, ``seconds`` of training and ``samples_per_second``.
    """
    started = clock() - part.seconds
    steps, tally, rate = part.steps, part.tally, 0.0
    samples = sum(loader.joint_size(step) for step in range(part.step)) // accelerator.num_processes
    batches = loader.epoch(part.epoch - 1, part.step)
    for step in range(part.step + 1, steps + 1):
        yield Position(part.epoch, step)
        batch = next(batches)
        rate = stage.learning_rate(before + step - 1, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses = model(batch, trace_of(batch))
        # Processes average their gradients, whatever their parts of the batch: a part counts as what it is.
        share = accelerator.num_processes * len(batch) / loader.joint_size(step - 1)
        accelerator.backward(losses.total if share == 1 else losses.total * share)
        if step == 1 and accelerator.num_processes > 1 and not stage.leaves_parameters_idle(distiller):
            check_that_all_learn(distiller)
        optimizer.step()
        model.zero_grad(set_to_none=True)
        tally.add(step, losses, batch.labels)
        samples += len(batch)
        on_event(StepDone(step, steps, samples))
        if step % CHECK_EVERY == 0 or step == steps:
            part.check()
            on_event(LossesSoFar(tally.so_far()))
        if step < steps:
            part.step, part.seconds = step, clock() - started
            after_step(part)
    means = tally.means(lambda sums: accelerator.reduce(sums, reduction="sum"))
    seconds = clock() - started
    speed = means.pop("samples") / seconds
    return {**means, "lr": rate, "seconds": seconds, "samples_per_second": speed}
