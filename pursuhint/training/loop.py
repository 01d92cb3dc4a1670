"""The loop: batch in, losses out, backward, step. It knows no method by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from torch import nn

from pursuhint.data import Loader
from pursuhint.data.seeds import derived_seed
from pursuhint.distiller import Distiller
from pursuhint.errors import PursuhintError
from pursuhint.training.events import EpochStarted, Event, StepDone
from pursuhint.training.stages import Stage, build_optimizer
from pursuhint.training.tally import CHECK_EVERY, Tally

__all__ = ["fit", "train_epoch"]


def fit(
    accelerator: Accelerator,
    distiller: Distiller,
    stages: Sequence[Stage],
    loader: Loader,
    *,
    seed: int,
    after_epoch: Callable[[dict[str, Any]], None],
    epochs_done: int = 0,
    restore: Callable[[], None] = lambda: None,
    on_event: Callable[[Event], None] = lambda event: None,
) -> None:
    """Train the stages one after the other.

    What an epoch draws depends on the seed and the epoch's number alone, so a run that goes on after a saved
    epoch equals one that was never stopped: bit for bit on the CPU with the same number of threads.

    Args:
        accelerator: owns device, precision, processes and the state to save.
        distiller: what is trained.
        stages: at least one.
        loader: of the training split, this process's part.
        seed: of the run.
        after_epoch: gets the metrics of every epoch, once its losses are known to be finite; evaluates and
            saves.
        epochs_done: epochs, over all stages, that the distiller has behind it already.
        restore: loads the state saved last into what the accelerator has prepared; called if ``epochs_done``
            is above 0.
        on_event: hears of epochs and steps.

    Raises:
        PursuhintError: a loss was not finite; looked at every `CHECK_EVERY` steps and after each epoch.
    """
    epochs = sum(stage.epochs for stage in stages)
    first = 1
    prepared = False
    for stage in stages:
        remaining = range(max(first, epochs_done + 1), first + stage.epochs)
        if remaining:
            if prepared:
                accelerator.free_memory()  # it would save and load the optimiser of the stage before as well
            elif remaining[0] == first > 1:
                accelerator.prepare(distiller)
                restore()  # weights only, as no optimiser has been prepared: this stage has a new one
                accelerator.free_memory()
            parameters = stage.enter(distiller)
            model, optimizer = accelerator.prepare(distiller, build_optimizer(stage.optimizer, parameters))
            prepared = True
            if remaining[0] > first:
                restore()
        for epoch in remaining:
            on_event(EpochStarted(epoch, epochs, stage.name, len(loader)))
            torch.manual_seed(derived_seed(seed, "epoch", epoch, accelerator.process_index))
            distiller.train()
            if stage.warm_up is None:
                distiller.begin_epoch(epoch - first, stage.epochs)
            steps_done = (epoch - first) * len(loader)
            metrics = train_epoch(accelerator, model, optimizer, stage, loader, epoch, steps_done, on_event)
            after_epoch({"epoch": epoch, "stage": stage.name, **metrics})
        first += stage.epochs
    if not prepared:
        accelerator.prepare(distiller)
        restore()


def train_epoch(
    accelerator: Accelerator,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    stage: Stage,
    loader: Loader,
    epoch: int,
    steps_done: int,
    on_event: Callable[[Event], None],
) -> dict[str, Any]:
    """One pass over the loader.

    Args:
        accelerator: as in `fit`.
        model: the distiller as the accelerator prepared it.
        optimizer: the same for the optimiser.
        stage: says the learning rate of every step.
        loader: as in `fit`.
        epoch: its number, from 1 over all stages.
        steps_done: steps of the stage before this epoch.
        on_event: hears of steps.

    Returns:
        Means over the epoch's samples (``train_loss``, one ``train_<term>`` for every term, unweighted, and
        ``train_top1`` in percent), the last ``lr``, ``seconds`` of training and ``samples_per_second``.
    """
    started = time.perf_counter()
    steps, samples, rate, tally = len(loader), 0, 0.0, Tally()
    for step, batch in enumerate(loader.epoch(epoch - 1), start=1):
        rate = stage.learning_rate(steps_done + step - 1, steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        losses = model(batch)
        accelerator.backward(losses.total)
        optimizer.step()
        model.zero_grad(set_to_none=True)
        tally.add(step, losses, batch.labels)
        samples += len(batch)
        on_event(StepDone(step, steps, samples))
        if (step % CHECK_EVERY == 0 or step == steps) and (problem := tally.problem()):
            kept = f"what was saved after epoch {epoch - 1} is kept" if epoch > 1 else "no epoch was finished"
            raise PursuhintError(
                f"{problem[0]} is not finite at epoch {epoch}, step {problem[1]} of {steps}; "
                f"lower optimizer.lr or the weight of the term; {kept}"
            )
    means = tally.means(lambda sums: accelerator.reduce(sums, reduction="sum"))
    seconds = time.perf_counter() - started
    speed = means.pop("samples") / seconds
    return {**means, "lr": rate, "seconds": seconds, "samples_per_second": speed}
